//go:build !ztm_router && !ztm_omit_yaml

package cli

import (
	"io"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// documents reads documents that are separated by lines of "---".
type documents struct{ d *yaml.Decoder }

func newDocuments(r io.Reader) documents { return documents{yaml.NewDecoder(r)} }

// Decode reads the next document. Its error is io.EOF after the last.
func (d documents) Decode(v any) error {
	var n yaml.Node
	if err := d.d.Decode(&n); err != nil {
		return err
	}
	keepAsWritten(&n)
	return n.Decode(v)
}

// keepAsWritten makes texts of all numbers but plain ones. YAML reads 0123, 0x50 and 1e3 as the
// numbers 83, 80 and 1000. They are ports, rates or names, and are parsed as on the command line.
func keepAsWritten(n *yaml.Node) {
	if tag := n.ShortTag(); n.Kind == yaml.ScalarNode && (tag == "!!int" || tag == "!!float") && !isPlain(n.Value) {
		n.Tag = "!!str"
	}
	for _, child := range n.Content {
		keepAsWritten(child)
	}
}

// isPlain reports whether a number is written in the way in which everybody reads the same.
func isPlain(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && strconv.Itoa(n) == s
}
