package gzip

import (
	"errors"
	"strings"
	"testing"
)

func TestNothingIsUnpackedAndNobodyIsToldOtherwise(t *testing.T) {
	var r Reader
	if err := r.Reset(strings.NewReader("\x1f\x8b")); !errors.Is(err, ErrLeftOut) {
		t.Errorf("Reset: %v", err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, ErrLeftOut) {
		t.Errorf("Read: %d, %v", n, err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}
