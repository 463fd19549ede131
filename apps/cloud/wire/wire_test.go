package wire

import (
	"bytes"
	"os"
	"testing"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func FuzzRequest(f *testing.F) {
	f.Add(Request{Op: Block, N: 7}.Append(nil))
	f.Add([]byte("X"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ReadRequest(bytes.NewReader(b))
		if err == nil && !bytes.Equal(r.Append(nil), b[:RequestSize]) {
			t.Errorf("%x was read as %+v", b, r)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(Answer{OK, 5}.Append(nil), int64(10))
	f.Add(Answer{NotFound, 5}.Append(nil), int64(10))
	f.Fuzz(func(t *testing.T, b []byte, most int64) {
		a, err := ReadAnswer(bytes.NewReader(b), most)
		if err != nil {
			return
		}
		if a.Length > most || a.Length < 0 || a.Status != OK && a.Length > 0 {
			t.Errorf("%+v was taken, at most %d bytes", a, most)
		}
		if !bytes.Equal(a.Append(nil), b[:answerSize]) {
			t.Errorf("%x was read as %+v", b, a)
		}
	})
}
