package run

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

func TestAFloodOfTheLogIsTakenAtItsPaceAndTheEndOfItIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, r := time.Now(), newRing()
		flood := append(make([]byte, 3*ringPace), "the end"...)
		r.take(bytes.NewReader(flood))
		if took := time.Since(begun); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("%d bytes took %v", len(flood), took)
		}
		if text, total, _ := r.since(0); total != int64(len(flood)) || len(text) != ringSize || !bytes.HasSuffix(text, []byte("the end")) {
			t.Errorf("%d bytes of %d are kept", len(text), total)
		}
	})
}
