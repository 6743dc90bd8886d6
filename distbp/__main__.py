"""python -m distbp"""

from distbp.launch import main

main()
