"""What ansible-test 2.21 runs in a new virtual environment to get pip; by this name it is looked for in its cache."""

import ensurepip

ensurepip.bootstrap()
