"""`python -m cauda.deploy`: how the supervisor starts a worker."""

from cauda.deploy.cli import main

if __name__ == "__main__":
    main()
