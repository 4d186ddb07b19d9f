// Draws the blocks of kind `mermaid`. Without the library they stay readable text.
if (window.mermaid) {
    document.querySelectorAll("code.language-mermaid").forEach((code) => {
        const drawing = document.createElement("pre");
        drawing.className = "mermaid";
        drawing.textContent = code.textContent;
        code.parentElement.replaceWith(drawing);
    });
    mermaid.initialize({ startOnLoad: true });
}
