package main

import (
	"fmt"
	"html"
	"os"
	"slices"
	"strings"
)

// A chart has a group of bars for each row that has plain hops: how good each path is as a part of
// what plain hops are, 1 being as good. A path that is better than the edge of the chart ends there
// with its figure.

// Sizes in the chart, in its units.
const (
	chartWidth  = 900
	labelWidth  = 390
	barHeight   = 11
	groupGap    = 12
	chartTop    = 46
	mostCharted = 1.6 // of plain hops
)

// charted are the paths that have bars, and their colours, which can be told apart on white and on
// black.
var charted = []struct{ path, colour string }{
	{sealedHops, "#8a8f98"}, {ztm, "#2f81f7"}, {before, "#79b8ff"}, {single, "#0e9f8e"}, {peers[0], "#d08700"}, {peers[1], "#c2410c"},
}

// draw writes the chart of all rows to a file, if there is one to write to.
func (r *run) draw(file string) error {
	if file == "" {
		return nil
	}
	return os.WriteFile(file, []byte(chart(r.result)), 0o644)
}

func chart(rows []row) string {
	var body strings.Builder
	y, used := chartTop, map[string]bool{}
	for _, w := range rows {
		bars := barsOf(w, &y, used)
		body.WriteString(bars)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"11\">\n", chartWidth, y)
	b.WriteString("<style>text{fill:#24292f}line{stroke:#24292f}@media(prefers-color-scheme:dark){text{fill:#d0d7de}line{stroke:#d0d7de}}</style>\n")
	legend(&b, used)
	at := labelWidth + width(1)
	fmt.Fprintf(&b, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke-dasharray=\"3 3\"/>\n", at, chartTop-6, at, y)
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">plain hops</text>\n", at, chartTop-10)
	b.WriteString(body.String())
	b.WriteString("</svg>\n")
	return b.String()
}

// barsOf is the group of one row, which begins at y; nothing where there is nothing to compare.
func barsOf(w row, y *int, used map[string]bool) string {
	if len(w.Ratios) == 0 {
		return ""
	}
	var b strings.Builder
	begin := *y
	for _, c := range charted {
		ratio, ok := w.Ratios[c.path]
		if !ok || ratio <= 0 {
			continue
		}
		if slices.Contains([]string{"ms", "s", "KB"}, w.Unit) { // less is better
			ratio = 1 / ratio
		}
		used[c.path] = true
		fmt.Fprintf(&b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"%s\"/>", labelWidth, *y, width(ratio), barHeight-2, c.colour)
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" font-size=\"9\">%.2f</text>\n", labelWidth+width(ratio)+4, *y+barHeight-3, ratio)
		*y += barHeight
	}
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", labelWidth-8, (begin+*y)/2+3, html.EscapeString(w.Name))
	*y += groupGap
	return b.String()
}

func width(ratio float64) int {
	return int(min(ratio, mostCharted) / mostCharted * (chartWidth - labelWidth - 40))
}

func legend(b *strings.Builder, used map[string]bool) {
	x := 8
	for _, c := range charted {
		if used[c.path] {
			fmt.Fprintf(b, "<rect x=\"%d\" y=\"6\" width=\"10\" height=\"10\" fill=\"%s\"/><text x=\"%d\" y=\"15\">%s</text>\n", x, c.colour, x+14, html.EscapeString(c.path))
			x += 30 + 6*len(c.path)
		}
	}
}
