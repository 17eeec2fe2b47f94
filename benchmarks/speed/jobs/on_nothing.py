"""The bare job without any queue, so many times in this process: `pooled` or `classic`."""

import sys

from benchmarks.speed.jobs import bare

if __name__ == "__main__":
    work = {"pooled": bare.work, "classic": bare.work_classically}[sys.argv[2]]
    for number in range(int(sys.argv[1])):
        work(number)
