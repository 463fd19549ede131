package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// standIn is a program that notes how it was called and answers as the real one would.
const standIn = `#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$(basename "$0") $*" in
*"$BROKEN"*) [ -z "$BROKEN" ] || { echo broken >&2; exit 1; } ;;
esac
case "$(basename "$0") $*" in
"docker cp "*) echo '{"root":1}' > "$3" ;;
"docker exec -i ztm-demo-root ztm invite "*) echo '{"kube":1}' ;;
"docker exec -i "*" join "*) cat >> "$CALLS.permits" ;;
"docker port "*8001/tcp) echo "$AT_A" ;;
"docker port "*8002/tcp) echo "$AT_B" ;;
"k3d kubeconfig get "*) echo config ;;
"kubectl "*" run ask "*) echo "The shop of cluster a" ;;
esac
`

// install puts stand-ins of programs alone into the path, and returns what calls were made.
func install(t *testing.T, programs ...string) (calls func() string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the stand-ins are programs of a shell")
	}
	bin := t.TempDir()
	for _, p := range programs {
		if err := os.WriteFile(filepath.Join(bin, p), []byte(standIn), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"sh", "basename", "cat"} { // what they are written with
		for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
			if _, err := os.Stat(filepath.Join(dir, p)); err == nil {
				os.Symlink(filepath.Join(dir, p), filepath.Join(bin, p))
			}
		}
	}
	log := filepath.Join(t.TempDir(), "calls")
	t.Setenv("CALLS", log)
	t.Setenv("BROKEN", "")
	t.Setenv("PATH", bin)
	for _, c := range []string{"a", "b"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "The shop of cluster", c) }))
		t.Cleanup(s.Close)
		t.Setenv("AT_"+strings.ToUpper(c), s.Listener.Addr().String())
	}
	t.Chdir("../../..")
	return func() string {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

// TestTwoClustersAreMadeJoinedAndRemoved holds for either tool.
func TestTwoClustersAreMadeJoinedAndRemoved(t *testing.T) {
	for tool, want := range map[string][]string{
		"k3d":  {"k3d cluster create ztm-demo-a --network ztm-demo", "k3d image import ztm:latest -c ztm-demo-b", "k3d cluster delete ztm-demo-a", "k3d cluster delete ztm-demo-b"},
		"kind": {"kind create cluster --name ztm-demo-a", "kind load docker-image ztm:latest --name ztm-demo-b", "kind delete cluster --name ztm-demo-a", "kind delete cluster --name ztm-demo-b"},
	} {
		t.Run(tool, func(t *testing.T) {
			calls := install(t, "docker", "kubectl", "go", tool)
			if err := run(t.Context(), io.Discard, false); err != nil {
				t.Fatal(err)
			}
			said := calls()
			for _, w := range append(want, "docker run -d --name ztm-demo-hub --network ztm-demo --ip 172.30.77.250 ztm:latest run hub",
				"apply -k deploy/kubernetes/agent", "annotate service web ztm.dev/expose=true", "docker network rm ztm-demo") {
				if !strings.Contains(said, w) {
					t.Errorf("nobody called %q:\n%s", w, said)
				}
			}
			if permits, err := os.ReadFile(os.Getenv("CALLS") + ".permits"); err != nil || string(permits) != "{\"root\":1}\n{\"kube\":1}\n" {
				t.Errorf("they joined with %q, %v", permits, err)
			}
		})
	}
}

// TestWhatFailsIsRemovedToo: nothing of the demo stays, unless that is wanted.
func TestWhatFailsIsRemovedToo(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep %t", keep), func(t *testing.T) {
			calls := install(t, "docker", "kubectl", "go", "kind")
			if _, err := os.Stat("deploy/kubernetes"); err != nil {
				t.Fatalf("it does not run in the repository: %v", err)
			}
			t.Setenv("BROKEN", "rollout status")
			if err := run(t.Context(), io.Discard, keep); err == nil || !strings.Contains(err.Error(), "broken") {
				t.Errorf("%v", err)
			}
			lines := strings.Split(strings.TrimSpace(calls()), "\n")
			if last := lines[len(lines)-1]; (last == "docker network rm ztm-demo") == keep {
				t.Errorf("the last call is %q", last)
			}
			if slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "annotate service") }) {
				t.Error("it went on")
			}
		})
	}
}

func TestWithoutAToolItSaysWhichAreNeeded(t *testing.T) {
	install(t, "docker", "kubectl", "go")
	if err := run(t.Context(), io.Discard, false); err == nil || err.Error() != "k3d or kind is needed" {
		t.Errorf("%v", err)
	}
}
