from hypothesis import settings

settings.register_profile("course", deadline=None)  # a busy machine is not a failure
settings.load_profile("course")
