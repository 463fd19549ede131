package contract

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestFramesAreWrittenToTheOutputThatTheyAreFor(t *testing.T) {
	var stdout, stderr strings.Builder
	frames := "\x01\x00\x00\x00\x03out" + "\x02\x00\x00\x00\x03err" + "\x01\x00\x00\x00\x00" + "\x03\x00\x00\x00\x01\x07" + "more"
	status, err := CopyFrames(&stdout, &stderr, strings.NewReader(frames))
	if status != 7 || err != nil || stdout.String() != "out" || stderr.String() != "err" {
		t.Errorf("status %d, %v, out %q, err %q", status, err, stdout.String(), stderr.String())
	}
}

func TestFramesThatBreakOffAreNoSuccess(t *testing.T) {
	for _, frames := range []string{"", "\x01\x00", "\x01\x00\x00\x00\x03ou", "\x01\xff\xff\xff\xffout", "\x03\x00\x00\x00\x01", "\x03\x00\x00\x00\x02\x00\x00", "\x09\x00\x00\x00\x00"} {
		if status, err := CopyFrames(io.Discard, io.Discard, strings.NewReader(frames)); err == nil {
			t.Errorf("%q: status %d", frames, status)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x03out\x03\x00\x00\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, frames []byte) {
		var out bytes.Buffer
		status, err := CopyFrames(&out, &out, bytes.NewReader(frames))
		if out.Len() > len(frames) || err == nil && (status < 0 || status > 255) {
			t.Errorf("%d bytes, status %d, %v", out.Len(), status, err)
		}
	})
}

func TestArgumentsOfACommandArePassedAsTheyAreTyped(t *testing.T) {
	args := []string{"", "a b", "--x=&y", "ü%2f"}
	u, err := CommandTarget(args)
	if err != nil {
		t.Fatal(err)
	}
	if got := u.Query()["arg"]; strings.Join(got, "|") != strings.Join(args, "|") || CheckTarget(u.RequestURI()) != nil {
		t.Errorf("%q arrive as %q", args, got)
	}
	if _, err := CommandTarget([]string{strings.Repeat("x", maxWords)}); err == nil {
		t.Error("arguments that are too long were not refused")
	}
}
