package datagram

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// ends are both ends of the same keys.
func ends(t testing.TB) (*sealer, *opener) {
	t.Helper()
	aead, err := newAEAD(bytes.Repeat([]byte("k"), KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return &sealer{aead: aead}, &opener{aead: aead}
}

func TestAPacketOpensOnceAndUnchangedAlone(t *testing.T) {
	out, in := ends(t)
	for _, payload := range [][]byte{nil, []byte("voice"), bytes.Repeat([]byte("x"), MaxPayload)} {
		packet, ok := out.append(nil, 7, payload)
		if !ok || len(packet) != overhead+len(payload) {
			t.Fatalf("%d bytes for %d, %v", len(packet), len(payload), ok)
		}
		for i := range packet {
			changed := bytes.Clone(packet)
			changed[i] ^= 1
			if _, _, ok := in.open(changed); ok {
				t.Errorf("it opens with another byte %d", i)
			}
		}
		flow, got, ok := in.open(bytes.Clone(packet))
		if !ok || flow != 7 || !bytes.Equal(got, payload) {
			t.Errorf("%d %q %v", flow, got, ok)
		}
		if _, _, ok := in.open(bytes.Clone(packet)); ok {
			t.Error("it opens again")
		}
	}
}

func TestAKeySealsAsMuchAsItMay(t *testing.T) {
	out, in := ends(t)
	out.last.Store(maxPackets - 1)
	packet, ok := out.append(nil, 1, nil)
	if !ok {
		t.Fatal("not the last one")
	}
	if _, _, ok := in.open(packet); !ok {
		t.Error("the last one does not open")
	}
	for range 2 {
		if _, ok := out.append(nil, 1, nil); ok {
			t.Error("one more")
		}
	}
}

// Compared with a set of all that came.
func TestTheWindowTakesEachCounterOnce(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var w window
	came, last := map[uint64]bool{}, uint64(0)
	for range 200_000 {
		counter := last + 1
		switch random.IntN(10) {
		case 0:
			counter = last + uint64(random.IntN(5*windowSize))
		case 1, 2, 3, 4, 5:
			counter = last - min(last, uint64(random.IntN(2*windowSize)))
		}
		want := counter != 0 && !came[counter] && counter+windowSize > last
		if got := w.fresh(counter); got != want {
			t.Fatalf("%d after %d: fresh is %v", counter, last, got)
		}
		if want {
			w.note(counter)
			came[counter], last = true, max(last, counter)
		}
	}
}

// Outsiders send what they like: nothing opens, nothing is asked of memory, and the window stays.
func FuzzOpen(f *testing.F) {
	out, _ := ends(f)
	good, _ := out.append(nil, 1, []byte("x"))
	f.Add(good[:len(good)-1])
	f.Add(bytes.Repeat([]byte{0xff}, maxPacket))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, in := ends(t)
		if _, _, ok := in.open(bytes.Clone(b)); ok && !bytes.Equal(b, good) {
			t.Error("it opens")
		}
		if in.seen != (window{}) && !bytes.Equal(b, good) {
			t.Error("the window has moved")
		}
	})
}
