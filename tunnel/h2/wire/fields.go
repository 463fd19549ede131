package wire

import (
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// Field is one header field. The names of pseudo-fields begin with a colon.
type Field = hpack.HeaderField

// Fields is a field section, in order.
type Fields []Field

// Get returns the value of the first field of a name; "" if there is none.
func (f Fields) Get(name string) string {
	for i := range f {
		if f[i].Name == name {
			return f[i].Value
		}
	}
	return ""
}

// Add appends a field. Its name is lower case.
func (f *Fields) Add(name, value string) { *f = append(*f, Field{Name: name, Value: value}) }

// Section says what a field section is.
type Section int

// The sections.
const (
	Request  Section = iota // of a client
	Response                // of a server
	Trailers                // after a body
)

// Check reports what is wrong with a field section (RFC 9113 section 8.2 and 8.3).
func (f Fields) Check(kind Section) error {
	seen := map[string]string{}
	regular := false
	for i := range f {
		name, value := f[i].Name, f[i].Value
		if err := CheckField(name, value); err != nil {
			return err
		}
		if name[0] != ':' {
			regular = true
			continue
		}
		if _, twice := seen[name]; twice || regular {
			return StreamError(ProtocolError, "the pseudo-field %q is twice there, or late", name)
		}
		seen[name] = value
	}
	return checkPseudo(kind, seen)
}

func checkPseudo(kind Section, seen map[string]string) error {
	if !together(kind, seen) {
		return StreamError(ProtocolError, "pseudo-fields that do not belong together")
	}
	return nil
}

// together reports whether pseudo-fields belong together.
func together(kind Section, seen map[string]string) bool {
	switch {
	case kind == Trailers:
		return len(seen) == 0
	case kind == Response:
		_, err := strconv.Atoi(seen[":status"])
		return err == nil && len(seen) == 1 && len(seen[":status"]) == 3
	case seen[":method"] == "CONNECT":
		return len(seen) == 2 && seen[":authority"] != ""
	}
	n := 3
	if _, has := seen[":authority"]; has {
		n = 4
	}
	return len(seen) == n && seen[":method"] != "" && seen[":scheme"] != "" && seen[":path"] != ""
}

// CheckField checks one field (RFC 9113 section 8.2.1 and 8.2.2).
func CheckField(name, value string) error {
	switch {
	case name == "" || name == ":":
		return StreamError(ProtocolError, "a field without a name")
	case strings.ContainsFunc(strings.TrimPrefix(name, ":"), func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' || 'A' <= r && r <= 'Z' }):
		return StreamError(ProtocolError, "the field name %q", name)
	case strings.ContainsAny(value, "\x00\r\n") || value != strings.Trim(value, " \t"):
		return StreamError(ProtocolError, "the value of field %q", name)
	}
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return StreamError(ProtocolError, "the field %q is of a connection", name)
	case "te":
		if value != "trailers" {
			return StreamError(ProtocolError, "the field te is %q", value)
		}
	}
	return nil
}

// Decoder decodes field sections into a list, within limits.
type Decoder struct {
	hpack *hpack.Decoder
	list  Fields
	size  int // of the list, as RFC 9113 section 6.5.2 counts
}

// tableSize is what a peer may use, as nothing else was said, in bytes (RFC 9113 section 6.5.2).
const tableSize = 4096

// NewDecoder makes a decoder.
func NewDecoder() *Decoder {
	d := &Decoder{}
	d.hpack = hpack.NewDecoder(tableSize, func(f Field) {
		if d.size += len(f.Name) + len(f.Value) + 32; d.size <= MaxFields {
			d.list = append(d.list, f)
		}
	})
	d.hpack.SetMaxStringLength(MaxFields)
	return d
}

// Write takes a piece of a section.
func (d *Decoder) Write(b []byte) error {
	if _, err := d.hpack.Write(b); err != nil {
		return ConnError(CompressionError, "%v", err)
	}
	return nil
}

// Finish returns the section. tooLarge says that it has more than we take; its fields are then not
// all there.
func (d *Decoder) Finish() (list Fields, tooLarge bool, err error) {
	if err := d.hpack.Close(); err != nil {
		return nil, false, ConnError(CompressionError, "%v", err)
	}
	list, tooLarge = d.list, d.size > MaxFields
	d.list, d.size = nil, 0
	return list, tooLarge, nil
}
