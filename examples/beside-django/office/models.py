from django.db import models


class Letter(models.Model):
    subject = models.CharField(max_length=100, unique=True)
    upload_id = models.UUIDField(null=True)  # of the SQL door
    task_id = models.UUIDField(null=True)  # of the Celery door

    def __str__(self):
        return self.subject
