# Read before the shell blocks of a page. Nothing is installed twice, and no script of the repository is run here that CI runs by
# itself: both are looked up.
set -eo pipefail

npm() {
  case $1 in
    install) node "$BLOCKS/installed.mjs" "${@:2}" ;;
    *) command npm "$@" ;;
  esac
}

npx() {
  case "$1 $2" in
    '-y pnpm@12') node "$BLOCKS/script.mjs" "$3" ;;
    *) command npx --no-install "$@" ;;
  esac
}
