// Package tabwriter stands in for Go 1.26's text/tabwriter in binaries where size counts. The
// command line's parser can print its help by a template, in columns, and is never asked to.
//
// It is our own, and has only what the parser's source mentions.
package tabwriter

import "io"

// Writer makes no columns.
type Writer struct{ io.Writer }

// NewWriter returns a Writer that writes to output what it is given.
func NewWriter(output io.Writer, minwidth, tabwidth, padding int, padchar byte, flags uint) *Writer {
	return &Writer{output}
}

// Flush does nothing.
func (*Writer) Flush() error { return nil }
