export P= PATH=/work/bin:$PATH; cd /tmp/newuser-3/here; h(){ echo "\$ $*"; host-cli localhost  "$@" 2>&1; echo "[rc $?]"; }
