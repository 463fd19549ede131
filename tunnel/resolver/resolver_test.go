package resolver

import (
	"encoding/binary"
	"net"
	"os"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func files(names ...string) fstest.MapFS {
	out := fstest.MapFS{}
	for i := 0; i < len(names); i += 2 {
		out[names[i]] = &fstest.MapFile{Data: []byte(names[i+1])}
	}
	return out
}

func TestOnlyAndroidNeedsIt(t *testing.T) {
	for _, tt := range []struct {
		name string
		root fstest.MapFS
		env  map[string]string
		want bool
	}{
		{"Termux", files(), map[string]string{"ANDROID_ROOT": "/system"}, true},
		{"Android without its environment", files("system/bin/sh", ""), nil, true},
		{"Linux", files("etc/resolv.conf", ""), nil, false},
		{"Linux in Termux", files("etc/resolv.conf", ""), map[string]string{"ANDROID_ROOT": "/system"}, false},
		{"a container without a resolv.conf", files(), nil, false},
	} {
		if got := Needed(tt.root, env(tt.env)); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}

func TestWhoIsAsked(t *testing.T) {
	const prefix = "/data/data/com.termux/files/usr"
	termux := files("data/data/com.termux/files/usr/etc/resolv.conf", "# Termux\nnameserver 10.0.0.1\nnameserver fe80::1%wlan0\nnameserver x\noptions y\n")
	for _, tt := range []struct {
		name string
		root fstest.MapFS
		env  map[string]string
		want []string
	}{
		{"the variable alone", termux, map[string]string{"PREFIX": prefix, "ZTM_DNS": "9.9.9.9, 192.168.1.1:5353,[2001:db8::1],nonsense"},
			[]string{"9.9.9.9:53", "192.168.1.1:5353", "[2001:db8::1]:53"}},
		{"Termux", termux, map[string]string{"PREFIX": prefix}, append([]string{"10.0.0.1:53", "[fe80::1%wlan0]:53"}, public...)},
		{"nobody has said", files(), nil, public},
		{"a strange prefix", files(), map[string]string{"PREFIX": "../../.."}, public},
	} {
		if diff := cmp.Diff(tt.want, Servers(tt.root, env(tt.env))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestAServerThatIsAwayIsPassedOver(t *testing.T) {
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := closed.LocalAddr().String()
	closed.Close() // questions there are refused at once
	for _, tt := range []struct{ name, server string }{
		{"nobody listens", gone},
		{"it cannot", nameServer(t, 2)},
		{"it does not want to", nameServer(t, 5)},
	} {
		for range 50 { // the questions for both kinds of address race
			r := New([]string{tt.server, nameServer(t, 0)})
			got, err := r.LookupHost(t.Context(), "hub.example.com.")
			if err != nil || len(got) != 1 || got[0] != "192.0.2.1" {
				t.Fatalf("%s: got %v, %v", tt.name, got, err)
			}
		}
	}
}

// nameServer answers every question for an IPv4 address with 192.0.2.1, and others with nothing;
// with a failure if code is one.
func nameServer(t *testing.T, code byte) string {
	t.Helper()
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	go func() { // ends with the socket
		buf := make([]byte, 512)
		for {
			n, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			end := 12 // the question follows the header (RFC 1035 section 4.1)
			for end < n && buf[end] != 0 {
				end += int(buf[end]) + 1
			}
			question := buf[12 : end+5]
			answer := append([]byte{buf[0], buf[1], 0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
			if code == 0 && binary.BigEndian.Uint16(buf[end+1:]) == 1 {
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1)
			}
			p.WriteTo(answer, from)
		}
	}()
	return p.LocalAddr().String()
}
