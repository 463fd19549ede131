package main

import (
	"context"
	"encoding/xml"
	"io"
	"net"
	"strings"
	"testing"

	"ztm/scripts/bench/load"
)

// loses is a peer that loses the end of every upload: it takes what comes and closes without an
// answer.
func loses(t *testing.T) *path {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	return &path{name: "chisel", address: ln.Addr().String()}
}

func serves(t *testing.T) *path {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go load.Serve(ln) // ends with the listener
	return &path{name: plainHops, address: ln.Addr().String()}
}

func TestAPeerThatFailsARowIsNamedAndTheOthersAreMeasured(t *testing.T) {
	broken, sound := loses(t), serves(t)
	f := rounds(3, []*path{broken, sound}, func(p *path) (float64, error) {
		return load.Throughput(context.Background(), p.address, 1, 1<<16, true)
	})
	if f.failed[broken.name] == "" || len(f.samples[broken.name]) > 0 {
		t.Errorf("the peer that lost the end of an upload has failed %q and the value %v", f.failed[broken.name], f.samples[broken.name])
	}
	if f.failed[sound.name] != "" || len(f.samples[sound.name]) != 3 {
		t.Errorf("the path that works has failed %q and the value %v", f.failed[sound.name], f.samples[sound.name])
	}

	r := &run{}
	r.add("throughput up, 1 flow", "MB/s", "", f)
	if len(r.errs) != 0 {
		t.Errorf("the failure of a peer fails the run: %v", r.errs)
	}
	f.fail(sound, io.ErrUnexpectedEOF)
	r.add("throughput up, 1 flow", "MB/s", "", f)
	if len(r.errs) != 1 {
		t.Errorf("the failure of what is ours is not reported: %v", r.errs)
	}
}

func TestARowIsItsMedianWithSpreadAndRatios(t *testing.T) {
	f := newFigures()
	f.samples[plainHops] = []float64{10, 30, 20}
	f.samples[sealedHops] = []float64{16}
	f.samples[ztm] = []float64{8, 2, 8, 10}
	w := newRow("ping-pong", "ms", "", f)
	if v := w.Values[ztm]; v != (value{8, 2, 10}) {
		t.Errorf("%+v", v)
	}
	if got := w.cell(ztm); got != " 8 (0.40, 0.50 of sealed)" {
		t.Errorf("the cell is %q", got)
	}
	drawn := chart([]row{w, newRow("only ours", "MB", "", ours(3))})
	if err := xml.Unmarshal([]byte(drawn), new(struct{})); err != nil {
		t.Errorf("the chart is no XML: %v", err)
	}
	if !strings.Contains(drawn, ">2.50<") || strings.Contains(drawn, "only ours") {
		t.Errorf("of a time less is better, and what has no plain hops has no bar: %s", drawn)
	}
}
