package answer

import (
	"errors"
	"io"
	"testing"
)

func TestErrorsOfSeveralAreOneLineAndStillEach(t *testing.T) {
	for _, tt := range []struct {
		errs []error
		want string
	}{
		{[]error{io.EOF, nil, io.ErrNoProgress}, "EOF; multiple Read calls return no data or error"},
		{[]error{nil, io.EOF}, "EOF"},
		{[]error{io.EOF, io.ErrNoProgress, errors.New("EOF")}, "EOF; multiple Read calls return no data or error"},
	} {
		if err := Join(tt.errs...); err.Error() != tt.want || !errors.Is(err, io.EOF) {
			t.Errorf("%q, want %q", err, tt.want)
		}
	}
	if err := Join(nil, nil); err != nil {
		t.Error(err)
	}
}
