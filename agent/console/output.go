// Others wrote part of the text that is printed: names, labels and messages come from endpoints and
// from the hub. No such text may move the cursor, colour a line, end it, or reorder what stands beside
// it.

package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"ztm/apps"
)

// Print writes v to standard output in the format that -o asked for. Where that is the table, it
// prints t.
func (c *Console) Print(v any, t *apps.Table) error {
	var b []byte
	var err error
	switch c.format {
	case "json":
		b, err = marshal(v)
		b = append(b, '\n')
	case "yaml":
		b, err = toYAML(v)
	default:
		b = table(t, c.Wide())
	}
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	_, err = c.cfg.Stdout.Write(b)
	return err
}

// Export implements [apps.Console].
func (c *Console) Export(v any) error {
	if !c.Structured() {
		c.format = "yaml"
	}
	return c.Print(v, nil)
}

// Wide reports whether the wide table was asked for.
func (c *Console) Wide() bool { return c.format == "wide" }

// Structured reports whether JSON or YAML was asked for.
func (c *Console) Structured() bool { return c.format == "json" || c.format == "yaml" }

// table renders a header row and rows in aligned columns, two spaces apart. Without a header the
// first column is a label: this is how one thing is described.
func table(t *apps.Table, wide bool) []byte {
	if t == nil {
		return nil
	}
	rows := t.Rows
	if len(t.Header) > 0 {
		rows = append([][]string{t.Header}, rows...)
	}
	var widths []int
	cells := make([][]string, len(rows))
	for i, row := range rows {
		if !wide {
			row = row[:max(0, len(row)-t.Wide)]
		}
		for j, cell := range row {
			cell = apps.Printable(cell)
			cells[i] = append(cells[i], cell)
			if j == len(widths) {
				widths = append(widths, 0)
			}
			widths[j] = max(widths[j], utf8.RuneCountInString(cell))
		}
	}
	var b bytes.Buffer
	for _, row := range cells {
		var line strings.Builder
		for j, cell := range row {
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", widths[j]-utf8.RuneCountInString(cell)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// marshal renders v as indented JSON in which what [apps.Printable] would replace is escaped.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return escape(bytes.TrimSpace(b.Bytes()), func(r rune) string {
		if r <= 0xffff {
			return fmt.Sprintf(`\u%04x`, r)
		}
		hi, lo := utf16.EncodeRune(r)
		return fmt.Sprintf(`\u%04x\u%04x`, hi, lo)
	}), nil
}

// escape replaces, in text where such runes are in quotes only, what [apps.Printable] would
// replace, but for the line ends.
func escape(text []byte, as func(rune) string) []byte {
	var out []byte
	for _, r := range string(text) {
		if r == '\n' || strconv.IsPrint(r) {
			out = utf8.AppendRune(out, r)
		} else {
			out = append(out, as(r)...)
		}
	}
	return out
}

// fail prints an error and its hint for a person, each on one line, joined errors too.
func fail(w io.Writer, err error, hint string) {
	fmt.Fprintf(w, "ztm: %s\n", apps.Printable(strings.ReplaceAll(err.Error(), "\n", "; ")))
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", apps.Printable(hint))
	}
}
