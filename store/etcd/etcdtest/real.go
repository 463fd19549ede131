package etcdtest

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ztm/apps/appstest"
)

// Real starts members of a real etcd, and returns their URLs. The program is that of $ZTM_ETCD, or one in $PATH; without
// one the test is skipped. They end with the test.
func Real(t testing.TB, members int) (urls []string) {
	t.Helper()
	program := os.Getenv("ZTM_ETCD")
	if program == "" {
		var err error
		if program, err = exec.LookPath("etcd"); err != nil {
			t.Skip("there is no etcd here: it is in Debian's package etcd-server")
		}
	}
	first := appstest.FreePorts(t, 2*members)
	peer := func(i int) string { return "http://" + appstest.Loopback(first+members+i) }
	var cluster []string
	for i := range members {
		urls = append(urls, "http://"+appstest.Loopback(first+i))
		cluster = append(cluster, fmt.Sprintf("e%d=%s", i, peer(i)))
	}
	dir := t.TempDir()
	for i, url := range urls {
		name := fmt.Sprint("e", i)
		run(t, exec.Command(program, "--data-dir", filepath.Join(dir, name), "--name", name, "--initial-cluster", strings.Join(cluster, ","),
			"--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer(i), "--initial-advertise-peer-urls", peer(i)))
	}
	for _, url := range urls {
		appstest.Eventually(t, "etcd answers", func() bool {
			resp, err := http.Get(url + "/health")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
	return urls
}

// run runs a program until the test ends.
func run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}
