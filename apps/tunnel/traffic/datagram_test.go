package traffic

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
)

func TestQueueDropsTheOldest(t *testing.T) {
	tests := []struct {
		name    string
		put     int // datagrams, numbered from 0
		size    int
		others  int64 // bytes in other queues of the tunnel
		want    int   // how many of the last wait
		dropped int64
	}{
		{"few", 3, 10, 0, 3, 0},
		{"too many", queueDatagrams + 5, 10, 0, queueDatagrams, 5},
		{"too big", 10, queueBytes / 4, 0, 4, 6},
		{"the tunnel is full", 3, 10, tunnelQueueBytes - 10, 1, 2},
		{"the others have it all", 3, 10, tunnelQueueBytes, 0, 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var total, dropped atomic.Int64
			total.Store(test.others)
			q := NewQueue(&total, &dropped)
			for i := range test.put {
				p := make([]byte, test.size)
				binary.BigEndian.PutUint32(p, uint32(i))
				q.Put(p)
			}
			if dropped.Load() != test.dropped {
				t.Errorf("dropped %d, want %d", dropped.Load(), test.dropped)
			}
			for i := range test.want {
				p, _ := q.get()
				if got := int(binary.BigEndian.Uint32(p)); got != test.put-test.want+i {
					t.Fatalf("got number %d, want %d", got, test.put-test.want+i)
				}
				q.release(p)
			}
			if total.Load() != test.others {
				t.Errorf("%d bytes are still counted", total.Load()-test.others)
			}
			q.Put([]byte("last"))
			q.Close()
			if _, ok := q.get(); ok || total.Load() != test.others {
				t.Error("the queue goes on after its close")
			}
		})
	}
}

func TestAQueueAtRestIsDrainedByNobody(t *testing.T) {
	var total, dropped atomic.Int64
	q := NewQueue(&total, &dropped)
	q.Put([]byte{0}) // before there is anybody
	var got []byte
	over := 0
	q.serve(func() {
		for p, ok := q.get(); ok; p, ok = q.get() {
			got = append(got, p...)
			q.release(p)
		}
	}, func() { over++ })
	for i := range 100 {
		q.drains.Wait() // the goroutine ends where nothing waits
		if len(got) != i+1 {
			t.Fatalf("%d datagrams came of %d", len(got), i+1)
		}
		q.Put([]byte{byte(i + 1)})
	}
	q.drains.Wait()
	for i, b := range got {
		if int(b) != i {
			t.Fatalf("datagram %d came as number %d", b, i)
		}
	}
	q.Close()
	q.Put([]byte("late"))
	if q.drains.Wait(); over != 1 || len(got) != 101 || total.Load() != 0 {
		t.Errorf("after its close: over %d times, %d datagrams, %d bytes are counted", over, len(got), total.Load())
	}
}
