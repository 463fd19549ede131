package transfer

import (
	"bytes"
	"testing"

	"ztm/apps/appstest"
)

func TestAllOfAFileIsCountedWhenWritingItFailsInTheMiddle(t *testing.T) {
	near, far, err := appstest.Pair("tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	r := &receiver{link: newLink(far, fromSender, 0), meter: &Meter{}}
	defer r.link.close(nil)
	w := &writing{receiver: r, entry: entry{Size: 2 * block, Time: 1, Mode: 0o600}, dir: open(t, t.TempDir()), name: named(t, "x")}
	content := bytes.Repeat([]byte{1}, block)
	var over bool
	for i := range 2 {
		for at := 0; at < block; at += chunk {
			if i == 1 && at == 4*chunk {
				w.out.File.Close() // the disk fails
			}
			if _, err := w.data(content[at : at+chunk]); err != nil {
				t.Fatal(err)
			}
		}
		if over, err = w.sum(sumOf(content).payload); err != nil {
			t.Fatal(err)
		}
	}
	if !over || len(r.report.Failures) != 1 {
		t.Errorf("after all of its bytes it is over: %v; %+v", over, r.report)
	}
}
