package wire

// What is sent of a field section (RFC 7541). It refers to the static table and never to the dynamic
// one, and has no Huffman code: fields of tunnels are short, and do not repeat enough to pay for 4 KiB
// in each of 10,000 sessions.

// indexed are the fields of the static table that flows are made of, and names those names (RFC 7541
// appendix A).
var (
	indexed = map[Field]byte{
		{Name: ":method", Value: "GET"}: 2, {Name: ":method", Value: "POST"}: 3, {Name: ":path", Value: "/"}: 4,
		{Name: ":scheme", Value: "http"}: 6, {Name: ":scheme", Value: "https"}: 7,
		{Name: ":status", Value: "200"}: 8, {Name: ":status", Value: "204"}: 9, {Name: ":status", Value: "404"}: 13,
	}
	names = map[string]int{":authority": 1, ":method": 2, ":path": 4, ":scheme": 6, ":status": 8, "content-length": 28, "content-type": 31}
)

// First bytes of what a section is made of (RFC 7541 section 6).
const (
	hpackIndexed = 0x80
	hpackNever   = 0x10 // a literal that nobody may index
	hpackLiteral = 0x00 // one that is not indexed
	hpackNoTable = 0x20 // the dynamic table has no room: the peer may have asked for less than it has
)

// AppendSection appends a field section as HEADERS and, if it is long, CONTINUATION frames.
func AppendSection(b []byte, stream uint32, f Fields, end bool) []byte {
	kind, flags := byte(FrameHeaders), byte(0)
	if end {
		flags = FlagEndStream
	}
	start := len(b)
	b = AppendHeader(b, 0, kind, flags, stream)
	b = appendFields(b, f)
	n := len(b) - start - HeaderSize
	if n <= LeastFrame {
		AppendHeader(b[:start], n, kind, flags|FlagEndHeaders, stream)
		return b
	}
	return appendPieces(b[:start], append([]byte(nil), b[start+HeaderSize:]...), flags, stream)
}

// appendPieces appends a section in as many frames as it needs.
func appendPieces(b, section []byte, flags byte, stream uint32) []byte {
	kind := byte(FrameHeaders)
	for {
		n := min(len(section), LeastFrame)
		if n == len(section) {
			flags |= FlagEndHeaders
		}
		b = append(AppendHeader(b, n, kind, flags, stream), section[:n]...)
		if section = section[n:]; len(section) == 0 {
			return b
		}
		kind, flags = FrameContinuation, 0
	}
}

func appendFields(b []byte, f Fields) []byte {
	b = append(b, hpackNoTable)
	for _, field := range f {
		if i := indexed[field]; i > 0 {
			b = append(b, hpackIndexed|i)
			continue
		}
		first := byte(hpackLiteral)
		if field.Sensitive {
			first = hpackNever
		}
		i := names[field.Name]
		if b = appendInt(b, first, 4, i); i == 0 {
			b = appendString(b, field.Name)
		}
		b = appendString(b, field.Value)
	}
	return b
}

func appendString(b []byte, s string) []byte { return append(appendInt(b, 0, 7, len(s)), s...) }

// appendInt appends an integer whose first bits share a byte with something else (RFC 7541 section
// 5.1).
func appendInt(b []byte, first byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}
