"""What lies where in an output folder, beside the files of each photo (`exports.WRITERS`)."""

STATE = ".ovseg"  # the folder of journals, locks and other records of runs
CLIPS = f"{STATE}/clips"  # a folder for each clip under way, so that none is called as a record
RUNS_OF_CLASSES = f"{STATE}/runs-of-classes.json"  # once an earlier run had other names
STATS = "stats.csv"
SUMMARY = "summary.csv"
PARENTS = "parents.csv"
CLASSES = "classes.json"
REPORT = "run.json"
RUN_FILES = (STATS, SUMMARY, PARENTS, CLASSES, REPORT, RUNS_OF_CLASSES)  # of the run as a whole
PAGE = "report.html"  # of `ovseg report`
PAGE_FILES = "report-files"  # where `ovseg report` puts the small pictures of its page
EXPORTS = "exports"  # where formats of other programs go, each into a folder of its name
EXPORTED = ".ovseg-files"  # in a format's folder: what the export has written
