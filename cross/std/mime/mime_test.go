package mime

import (
	"errors"
	"testing"
)

func TestNothingIsKnownAndNobodyIsToldOtherwise(t *testing.T) {
	if typ, params, err := ParseMediaType("text/html; charset=utf-8"); typ != "" || params != nil || !errors.Is(err, ErrLeftOut) {
		t.Errorf("%q, %v, %v", typ, params, err)
	}
	if typ := TypeByExtension(".html"); typ != "" {
		t.Errorf("%q", typ)
	}
}
