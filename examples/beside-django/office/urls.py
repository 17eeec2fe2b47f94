from django.urls import path

from office import views

urlpatterns = [
    path("letters/<str:subject>/by-sql", views.by_sql),
    path("letters/<str:subject>/by-celery", views.by_celery),
    path("letters/<str:subject>", views.show),
]
