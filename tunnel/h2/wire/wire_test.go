package wire

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// fields makes a section of names and values.
func fields(list ...string) (f Fields) {
	for i := 0; i < len(list); i += 2 {
		f.Add(list[i], list[i+1])
	}
	return f
}

func TestASectionHasThePseudoFieldsOfItsKindOnceAndFirst(t *testing.T) {
	request := []string{":method", "GET", ":scheme", "https", ":path", "/"}
	with := func(more ...string) Fields { return fields(append(append([]string{}, request...), more...)...) }
	for name, c := range map[string]struct {
		kind  Section
		f     Fields
		valid bool
	}{
		"a request":                       {Request, with(), true},
		"with an authority":               {Request, with(":authority", "peer", "x", "y"), true},
		"CONNECT":                         {Request, fields(":method", "CONNECT", ":authority", "peer"), true},
		"CONNECT with a path":             {Request, fields(":method", "CONNECT", ":authority", "peer", ":path", "/"), false},
		"CONNECT without an authority":    {Request, fields(":method", "CONNECT", ":path", "/"), false},
		"no path":                         {Request, fields(":method", "GET", ":scheme", "https"), false},
		"an empty path":                   {Request, fields(":method", "GET", ":scheme", "https", ":path", ""), false},
		"a path twice":                    {Request, with(":path", "/"), false},
		"late":                            {Request, fields(":method", "GET", "x", "y", ":scheme", "https", ":path", "/"), false},
		"an unknown one":                  {Request, with(":protocol", "websocket"), false},
		"a status in a request":           {Request, with(":status", "200"), false},
		"an answer":                       {Response, fields(":status", "200", "x", "y"), true},
		"an answer without a status":      {Response, fields("x", "y"), false},
		"an answer of two digits":         {Response, fields(":status", "20"), false},
		"an answer that is no number":     {Response, fields(":status", "2x0"), false},
		"an answer with a path":           {Response, fields(":status", "200", ":path", "/"), false},
		"trailers":                        {Trailers, fields("x", "y"), true},
		"trailers with a pseudo-field":    {Trailers, fields(":status", "200"), false},
		"a field of connections":          {Request, with("connection", "close"), false},
		"te with something else":          {Request, with("te", "gzip"), false},
		"te":                              {Request, with("te", "trailers"), true},
		"a name with a capital":           {Request, with("X", "y"), false},
		"a name with a space":             {Request, with("a b", "y"), false},
		"a name with a colon inside":      {Request, with("a:b", "y"), false},
		"no name":                         {Request, with("", "y"), false},
		"a value with a line break":       {Request, with("x", "y\r\nz: 1"), false},
		"a value with a zero":             {Request, with("x", "y\x00"), false},
		"a value with a space at the end": {Request, with("x", "y "), false},
	} {
		if err := c.f.Check(c.kind); (err == nil) != c.valid {
			t.Errorf("%s: %v", name, err)
		} else if fault := new(Error); err != nil && (!errors.As(err, &fault) || !fault.Stream || fault.Code != ProtocolError) {
			t.Errorf("%s: the fault is %v", name, err)
		}
	}
}

func TestWhatIsAppendedIsWhatIsParsed(t *testing.T) {
	for _, want := range []Frame{{0, FrameSettings, FlagAck, 0}, {MaxFrame, FrameData, FlagEndStream | FlagPadded, MaxWindow}, {1<<24 - 1, 0xff, 0xff, 1}} {
		b := AppendHeader(nil, want.Length, want.Kind, want.Flags, want.Stream)
		if got := Parse((*[HeaderSize]byte)(b)); got != want {
			t.Errorf("%+v became %+v", want, got)
		}
	}
	reserved := AppendHeader(nil, 0, FrameData, 0, 1<<31|5)
	if got := Parse((*[HeaderSize]byte)(reserved)); got.Stream != 5 {
		t.Errorf("with the reserved bit the stream is %d", got.Stream)
	}
}

// block encodes a section.
func block(f Fields) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, one := range f {
		e.WriteField(one)
	}
	return b.Bytes()
}

func TestASectionIsDecodedWithinItsLimit(t *testing.T) {
	d := NewDecoder()
	for _, c := range []struct {
		size  int // of the value of each of ten fields
		large bool
	}{{10, false}, {MaxFields / 10, true}, {10, false}} { // one that is too large leaves the next alone
		f := Fields{}
		for range 10 {
			f.Add("x", strings.Repeat("v", c.size))
		}
		b := block(f)
		for len(b) > 0 { // in pieces
			n := min(len(b), 100)
			if err := d.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		list, large, err := d.Finish()
		if err != nil || large != c.large || !large && len(list) != 10 {
			t.Errorf("values of %d bytes: %d fields, too large: %v, %v", c.size, len(list), large, err)
		}
	}
}

func TestASectionThatBreaksOffIsAFaultOfTheConnection(t *testing.T) {
	d := NewDecoder()
	err := d.Write(block(fields("name", "value"))[:4])
	if err == nil {
		_, _, err = d.Finish()
	}
	var fault *Error
	if !errors.As(err, &fault) || fault.Stream || fault.Code != CompressionError {
		t.Errorf("the fault is %v", err)
	}
}

// FuzzDecoder: no section makes more fields than its limit, whatever table it builds, and a section
// that passes the check is what a request may be.
func FuzzDecoder(f *testing.F) {
	f.Add(block(fields(":method", "GET", ":scheme", "https", ":path", "/")), 3)
	f.Add(append(block(fields("x", strings.Repeat("v", 2000))), bytes.Repeat([]byte{0xbe}, 100)...), 7)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		d := NewDecoder()
		for piece = min(max(piece, 1), 1<<10); len(b) > 0; {
			n := min(piece, len(b))
			if err := d.Write(b[:n]); err != nil {
				return
			}
			b = b[n:]
		}
		list, large, err := d.Finish()
		if err != nil || large {
			return
		}
		size := 0
		for _, one := range list {
			size += len(one.Name) + len(one.Value) + 32
		}
		if size > MaxFields {
			t.Errorf("%d bytes of fields", size)
		}
		if list.Check(Request) == nil && list.Get(":method") == "" {
			t.Error("a request without a method")
		}
	})
}

func TestRequestsAndAnswersBecomeSectionsAndComeBack(t *testing.T) {
	for _, target := range []string{"https://peer/a/b?c=d", "https://peer"} {
		r, _ := http.NewRequest("PUT", target, nil)
		r.Header.Set("X-Name", "value")
		back, err := OfRequest(r).Request()
		if err != nil || back.Method != "PUT" || back.Host != "peer" || back.URL.RequestURI() != r.URL.RequestURI() || back.Header.Get("X-Name") != "value" {
			t.Errorf("%s became %v %v %v, %v", target, back.Method, back.URL, back.Header, err)
		}
		if err := OfRequest(r).Check(Request); err != nil {
			t.Error(err)
		}
	}
	h := http.Header{"Content-Length": {"5"}, "X-Bad": {"line\nbreak"}, "Connection": {"close"}, "X-Good": {" trimmed "}}
	f := OfAnswer(404, h)
	if err := f.Check(Response); err != nil {
		t.Error(err)
	}
	if a := f.Answer(); a.StatusCode != 404 || a.ContentLength != 5 || a.Header.Get("X-Good") != "trimmed" || len(a.Header) != 2 {
		t.Errorf("the answer became %v %v", a.Status, a.Header)
	}
	if _, err := fields(":method", "GET", ":path", "no path").Request(); err == nil {
		t.Error("a request without a path was made")
	}
}
