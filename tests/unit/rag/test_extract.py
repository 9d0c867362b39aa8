"""Extraction of each format, and its refusals: real small files, and hostile ones made by hand."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import docx
import pytest
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from morgand.assistant.rag.extract import ExtractedContent, read
from morgand.base.errors import TooLarge, Unreadable, Unsupported

EXAMPLES = Path(__file__).parents[3] / "examples"


def extracted(folder: Path, name: str, data: bytes) -> ExtractedContent:
    file = folder / "content"  # the stored name says nothing
    file.write_bytes(data)
    return read(file, name)


def pdf(*pages: str, encrypt: StandardEncryption | None = None) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=encrypt)
    for page in pages:
        if page:
            canvas.drawString(72, 720, page)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def word() -> bytes:
    document = docx.Document()
    document.add_heading("Heating", level=1)
    document.add_heading("Pressure", level=2)
    document.add_paragraph("It is 1.3 bar.")
    document.sections[0].footer.paragraphs[0].text = "Kept in the cellar"
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def test_pdf_pages_are_places(tmp_path: Path) -> None:
    """Each page with text is a block; a page without one is passed over."""
    content = extracted(tmp_path, "a.pdf", pdf("The first page.", "", "The third page."))
    assert [(block.text, block.place) for block in content.blocks] == [
        ("The first page.", "page 1"),
        ("The third page.", "page 3"),
    ]


def test_docx_headings_are_the_place(tmp_path: Path) -> None:
    """Headings become the path; the footer is read too."""
    content = extracted(tmp_path, "a.docx", word())
    assert [(block.text, block.place) for block in content.blocks] == [
        ("It is 1.3 bar.", "Heating > Pressure"),
        ("Kept in the cellar", "header and footer"),
    ]


def test_html_keeps_what_people_see(tmp_path: Path) -> None:
    """Scripts and styles go, table rows stay rows, the title is the page's."""
    page = b"""<title>Plan</title><style>p{}</style><h1>Net</h1><script>evil()</script><p>One <b>bold</b> word</p>
    <table><tr><th>Name</th><td>10.0.0.1</td></tr></table><pre>a\n  b</pre>"""
    content = extracted(tmp_path, "a.html", page)
    assert content.title == "Plan"
    assert [(block.place, block.text) for block in content.blocks] == [("Net", "One bold word\nName | 10.0.0.1\na\n b")]


def test_html_nested_40_000_deep_is_read_or_refused(tmp_path: Path) -> None:
    """No stack is deep enough for such a page, so none is used."""
    page = b"<div>" * 40_000 + b"the middle" + b"</div>" * 40_000
    assert "the middle" in extracted(tmp_path, "a.html", page).blocks[0].text


def test_markdown_keeps_tables_and_code(tmp_path: Path) -> None:
    """Marks go, the words of tables and code stay; an empty last heading is not lost."""
    text = "# A\n\nSome *words*.\n\n## B\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\n```\nrun this\n```\n\n# End\n"
    content = extracted(tmp_path, "a.md", text.encode())
    assert [(block.place, block.text) for block in content.blocks] == [
        ("A", "Some words."),
        ("A > B", "x | y\n1 | 2\nrun this"),
        ("End", "End"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_text_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    """The words survive whatever encoding they came in."""
    text = (
        "Die Küche wurde im März gestrichen, der Flur später. Schlüssel hängen über der Tür, größere Töpfe oben.\n" * 3
    )
    content = extracted(tmp_path, "a.txt", text.encode(encoding))
    assert "Küche" in content.blocks[0].text
    assert "größere" in content.blocks[0].text


def test_a_few_accents_are_western(tmp_path: Path) -> None:
    """One short line in Latin-1 is too little to guess from: it is read as the commonest encoding."""
    line = "Latin-1 café: the naïve façade was painted in 1987 by the neighbours."
    assert extracted(tmp_path, "a.txt", line.encode("latin-1")).blocks[0].text == line


def test_mixed_bad_bytes_cost_only_themselves(tmp_path: Path) -> None:
    """One broken byte in UTF-8 does not turn the rest into another encoding."""
    text = extracted(tmp_path, "a.txt", "Größe, Höhe, Länge ".encode() + b"\xff end").blocks[0].text
    assert "Größe" in text
    assert text.endswith("end")


def test_source_lines_are_places(tmp_path: Path) -> None:
    """Source code keeps its indentation and is placed by lines."""
    code = "".join(f"def f{number}():\n    return {number}\n" for number in range(30))
    blocks = extracted(tmp_path, "a.py", code.encode()).blocks
    assert [block.place for block in blocks] == ["lines 1-40", "lines 41-61"]
    assert "\n    return 0" in blocks[0].text


def test_a_megabyte_in_one_line(tmp_path: Path) -> None:
    """A line of any length is text."""
    assert len(extracted(tmp_path, "a.txt", b"a" * 1_000_000).blocks[0].text) == 1_000_000


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"<w>" + b" " * 30_000_000 + b"</w>")
    return buffer.getvalue()


def archive_of(member: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, "x")
    return buffer.getvalue()


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01" + bytes(range(256))


@pytest.mark.parametrize(
    ("name", "data", "error", "words"),
    [
        ("a.txt", b"", Unreadable, "empty"),
        ("a.txt", b" \n\t\n", Unreadable, "empty"),
        ("a.html", b"<script>x</script>", Unreadable, "no text"),
        ("a.pdf", b"%PDF-1.7\n" + b"garbage" * 50, Unreadable, "damaged"),
        ("a.pdf", b"not a pdf", Unreadable, "not one inside"),
        ("a.pdf", pdf("", ""), Unreadable, "OCR"),
        ("a.pdf", pdf("secret", encrypt=StandardEncryption("pw", ownerPassword="o")), Unreadable, "password"),
        ("a.docx", word()[:2000], Unreadable, "damaged"),
        ("a.docx", archive_of("word/document.xml"), Unreadable, "damaged"),
        ("a.docx", OLE + "EncryptedPackage".encode("utf-16-le"), Unreadable, "password"),
        ("a.doc", OLE, Unsupported, "old Office"),
        ("a.docx", bomb(), TooLarge, "unpacks to 28 MB"),
        ("a.zip", archive_of("x.txt"), Unsupported, "Unpack"),
        ("a.txt", PNG, Unsupported, "binary"),
        ("a.xyz", b"some words", Unsupported, "unknown type"),
        ("a.txt", b"word " * 5_000_000, TooLarge, "Split"),
    ],
)
def test_refusals_name_the_file_and_the_remedy(
    tmp_path: Path, name: str, data: bytes, error: type[Exception], words: str
) -> None:
    """Every refusal says which file, what is wrong, and what to do."""
    with pytest.raises(error, match=words) as caught:
        extracted(tmp_path, name, data)
    assert f"'{name}'" in str(caught.value)
    assert getattr(caught.value, "remedy", None)


def test_example_questions_have_their_answers() -> None:
    """The examples say what their questions expect, at the place they name."""
    for question in json.loads((EXAMPLES / "questions.json").read_text()):
        content = read(EXAMPLES / "documents" / question["document"], question["document"])
        text = " ".join(block.text for block in content.blocks if block.place == question["place"]).lower()
        assert all(part.lower() in text for part in question["answer_contains"]), question
