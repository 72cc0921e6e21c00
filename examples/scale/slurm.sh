#!/bin/bash
# Photos on a Slurm cluster: each task of an array job does its part, and a last job joins them.
# PHOTOS and OUT are folders that all machines see.
#
#   job=$(sbatch --parsable --array=0-15 slurm.sh PHOTOS NAMES.txt OUT)
#   sbatch --dependency="afterany:$job" --wrap "ovseg merge OUT"
#
# Tasks that were killed or ran out of time go on where they were: submit the same again, with the
# same numbers in --array. `ovseg merge` refuses, and says why, unless every part is there and
# finished.
#SBATCH --job-name=ovseg
#SBATCH --cpus-per-task=4
#SBATCH --requeue
set -euo pipefail
photos=$1 names=$2 out=$3

exec ovseg segment "$photos" --recursive --vocab "$names" -o "$out" \
    --shard slurm --resume --max-errors 5%
