package tunnel_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/tunnel/entrance"
	"ztm/apps/tunnel/tunneltest"
)

// start starts a program that is ready when something listens at address, and stops it at the end
// of the test. The test is skipped where the program is not installed; debian is the package that
// has it.
func start(t *testing.T, debian, address, name string, args ...string) {
	t.Helper()
	cmd := program(t, debian, name, args...)
	var out appstest.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // for a child that holds on to the output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill(); <-done })
	appstest.Eventually(t, name+" listens", func() bool {
		select {
		case err := <-done:
			done <- err
			t.Fatalf("%s: %v\n%s", name, err, out.String())
		default:
		}
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// output runs a program and returns what it prints.
func output(t *testing.T, debian, name string, args ...string) string {
	t.Helper()
	out, err := program(t, debian, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func program(t *testing.T, debian, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name // where servers are, which is not in everybody's PATH
		if _, err := os.Stat(path); err != nil {
			t.Skipf("%s is not installed: apt install %s", name, debian)
		}
	}
	return exec.CommandContext(t.Context(), path, args...)
}

func TestCurlFetchesALargeFile(t *testing.T) {
	appstest.Long(t)
	program(t, "curl", "curl")
	file := bytes.Repeat([]byte("All the world's a stage,\n"), 4<<20)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(file) }))
	defer web.Close()
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "tcp/web", web.Listener.Addr().String())
	out := t.TempDir() + "/file"
	output(t, "curl", "curl", "-sS", "-m", "60", "-o", out, "http://"+a.Listen(t, "tcp/web")+"/")
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	io.Copy(sum, f)
	if want := sha256.Sum256(file); !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Error("the file has another hash than at its source")
	}
}

func TestDigAsksADNSServer(t *testing.T) {
	program(t, "bind9-dnsutils", "dig")
	server := appstest.FreeAddress(t)
	start(t, "dnsmasq-base", server, "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null",
		"--user=root", "--bind-interfaces", "--listen-address=127.0.0.1", "--port="+appstest.Port(server),
		"--address=/service.test/192.0.2.7", "--txt-record=long.test,"+strings.Repeat("x", 250))
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "udp/dns", server)
	b.Offer(t, "tcp/dns", server)
	for _, args := range [][]string{{"udp/dns", "+notcp"}, {"tcp/dns", "+tcp"}} {
		p := appstest.Port(a.Listen(t, args[0]))
		dig := []string{"@127.0.0.1", "-p", p, args[1], "+short", "+timeout=5", "+tries=3"}
		if got := output(t, "bind9-dnsutils", "dig", append(dig, "service.test")...); got != "192.0.2.7\n" {
			t.Errorf("over %s dig said %q", args[0], got)
		}
	}
}

func TestIperfMeasuresBothWaysOverTCPAndUDP(t *testing.T) {
	appstest.Long(t)
	program(t, "iperf3", "iperf3")
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	for _, args := range [][]string{{}, {"-R"}, {"-u", "-b", "20M", "-l", "1420"}, {"-u", "-b", "20M", "-R"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			server := appstest.FreeAddress(t)
			cmd := program(t, "iperf3", "iperf3", "-s", "-1", "--forceflush", "-B", "127.0.0.1", "-p", appstest.Port(server))
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			for said := ""; !strings.Contains(said, "Server listening"); { // to connect would use up its one client
				buf := make([]byte, 256)
				k, err := stdout.Read(buf)
				if err != nil {
					t.Fatalf("iperf3 -s said %q and ended: %v", said, err)
				}
				said += string(buf[:k])
			}
			go io.Copy(io.Discard, stdout)
			b.Offer(t, "tcp/iperf", server)
			b.Offer(t, "udp/iperf", server)
			listen := `{"listens":["` + appstest.FreeAddress(t) + `"]}` // one port for both
			var s entrance.Status
			a.MustCall(t, "POST", "/inbound/tcp/iperf", listen, &s)
			a.MustCall(t, "POST", "/inbound/udp/iperf", listen, nil)
			client := append([]string{"-c", "127.0.0.1", "-p", appstest.Port(s.Listeners[0].Address), "-t", "1", "-J"}, args...)
			var result struct {
				End struct {
					Received struct{ Bytes float64 } `json:"sum_received"`
					Sum      struct {
						Bytes   float64
						Packets float64
						Lost    float64 `json:"lost_packets"`
						Late    float64 `json:"out_of_order"`
					}
				}
			}
			out := output(t, "iperf3", "iperf3", client...)
			if err := json.Unmarshal([]byte(out), &result); err != nil {
				t.Fatal(err)
			}
			e := result.End
			if e.Received.Bytes == 0 && e.Sum.Packets <= e.Sum.Lost || e.Sum.Late > 0 {
				t.Errorf("iperf3 measured %+v", e)
			}
			t.Logf("%+v", e)
		})
	}
}

func TestNetcatSeesHalfCloses(t *testing.T) {
	program(t, "socat", "socat")
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	target := appstest.FreeAddress(t)
	start(t, "socat", target, "socat", "TCP-LISTEN:"+appstest.Port(target)+",bind=127.0.0.1,fork,reuseaddr", "EXEC:sha256sum")
	b.Offer(t, "tcp/sum", target)
	cmd := program(t, "socat", "socat", "-t", "20", "-", "TCP:"+a.Listen(t, "tcp/sum"))
	data := strings.Repeat(strconv.Itoa(1<<20), 1<<15)
	cmd.Stdin = strings.NewReader(data)
	got, err := cmd.CombinedOutput() // the sum comes only after the end of the input has reached the far side
	want := fmt.Sprintf("%x  -\n", sha256.Sum256([]byte(data)))
	if string(got) != want || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}
