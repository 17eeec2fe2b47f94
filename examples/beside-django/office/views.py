"""Letters: an application of its own beside Haulage. It imports nothing of it; it knows a function and a task's name."""

from uuid import uuid4

from celery import Celery
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.http import JsonResponse
from django.shortcuts import get_object_or_404

from office.models import Letter

queue = Celery("office", broker=settings.REDIS_URL, backend=settings.REDIS_URL)


def by_sql(request, subject):
    """The letter and its upload are one transaction: both are there, or neither."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            filename = f"letters/{subject}.txt"
            cursor.execute("SELECT corporate.enqueue_upload(%s, %s)", [settings.CORP, filename])
            (upload_id,) = cursor.fetchone()
            Letter.objects.create(subject=subject, upload_id=upload_id)
            put_into_inbox(filename, request.body)  # before the commit: a worker may come right after it
    except IntegrityError:  # rolled back, and nothing is queued
        return JsonResponse({"error": "there is such a letter"}, status=409)
    return JsonResponse({"upload_id": upload_id}, status=202)


def by_celery(request, subject):
    """The message goes out after the commit, or a quick worker would come before the letter is there."""
    task_id, filename = uuid4(), f"letters/{subject}.txt"
    try:
        with transaction.atomic():
            Letter.objects.create(subject=subject, task_id=task_id)
            put_into_inbox(filename, request.body)
            transaction.on_commit(lambda: send(task_id, filename))
    except IntegrityError:  # rolled back, and nothing is sent
        return JsonResponse({"error": "there is such a letter"}, status=409)
    return JsonResponse({"task_id": task_id}, status=202)


def send(task_id, filename):
    arguments = [settings.CORP, filename]
    queue.send_task("tasks.uploads.upload_file", arguments, queue="uploads", task_id=str(task_id))


def show(request, subject):  # noqa: ARG001
    """Tell the result of the Celery door, once there is one. It is kept for an hour."""
    letter = get_object_or_404(Letter, subject=subject)
    sent = queue.AsyncResult(str(letter.task_id))
    return JsonResponse({"result": sent.result if sent.successful() else None})


def put_into_inbox(filename, content):
    path = settings.INBOX / filename
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
