-- As the owner: what the letters need, and what Haulage's worker may do with it.
CREATE SCHEMA letters;
CREATE TABLE letters.letters (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    words TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'written',
    due_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now(),  -- of the next try; while sending, the end of the claim
    sends BIGINT NOT NULL DEFAULT 0
);
GRANT USAGE ON SCHEMA letters TO haulage_worker;
GRANT SELECT, INSERT, UPDATE ON letters.letters TO haulage_worker;
