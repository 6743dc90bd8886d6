"""`distbp doctor`: is this installation healthy, here and on these ranks?"""
