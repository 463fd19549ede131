package h2

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"
)

func TestAPathThatBecameLongerIsSeenLatelyAndNotInTheLeastOfAll(t *testing.T) {
	const ms = time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		var c Conn
		c.rtt = 9 * ms // what Options said
		if c.Lately() != 9*ms {
			t.Errorf("before the first PING %v", c.Lately())
		}
		c.pinging, c.pingSent = true, time.Now()
		<-time.After(100 * ms)
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], c.pingNo)
		if c.pongLocked(b); c.Lately() != 100*ms || c.RTT() != 9*ms {
			t.Errorf("lately %v, the least %v", c.Lately(), c.RTT())
		}
	})
}
