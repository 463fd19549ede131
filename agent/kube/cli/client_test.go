package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"ztm/agent/kube/access"
)

func TestTheTokenIsAskedForWhereTheLoginWasMade(t *testing.T) {
	for line, want := range map[string]string{
		"ztm kube login a": "", "ztm --data /d mesh m kube login a": "--data /d mesh m", "ztm ep kube kube login a": "ep kube", "ztm kube ls": "",
	} {
		if got := strings.Join(before(strings.Fields(line)), " "); got != want {
			t.Errorf("%s: %q", line, got)
		}
	}
}

func TestAKubeconfigHasNoSecret(t *testing.T) {
	b, err := kubeconfig(access.Login{Name: "office", Listen: "127.0.0.1:7", Certificate: "PEM"}, []string{"/bin/ztm", "--data", "/d"})
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Context string `json:"current-context"`
		Users   []struct {
			User struct {
				Exec struct {
					Command string
					Args    []string
				}
			}
		}
		Clusters []struct {
			Cluster struct {
				Server string
				CA     []byte `json:"certificate-authority-data"`
			}
		}
	}
	if err := json.Unmarshal(b, &c); err != nil || c.Context != "ztm-office" || c.Clusters[0].Cluster.Server != "https://127.0.0.1:7" || string(c.Clusters[0].Cluster.CA) != "PEM" {
		t.Errorf("%s, %v", b, err)
	}
	if exec := c.Users[0].User.Exec; exec.Command != "/bin/ztm" || !slices.Equal(exec.Args, []string{"--data", "/d", "kube", "token", "office"}) {
		t.Errorf("%+v", exec)
	}
}

func TestAFileOfSomebodyElseIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if _, err := write(path, "x", []byte("first")); err != nil {
		t.Fatal(err)
	}
	if _, err := write(path, "x", []byte("second")); err == nil {
		t.Error("it was replaced")
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm()&0o077 != 0 {
		t.Errorf("%v, %v", fi, err)
	}
}

func TestTheRulesNameEachUserAndGroup(t *testing.T) {
	d := yaml.NewDecoder(strings.NewReader(string(rules([]string{"alice@x", "bob"}, []string{"ops"}))))
	var role struct {
		Kind  string
		Rules []struct {
			Resources, Verbs []string
			Names            []string `yaml:"resourceNames"`
		}
	}
	if err := d.Decode(&role); err != nil || role.Kind != "ClusterRole" || len(role.Rules) != 2 || !slices.Equal(role.Rules[0].Names, []string{"ztm:alice@x", "ztm:bob"}) ||
		!slices.Equal(role.Rules[0].Verbs, []string{"impersonate"}) || !slices.Equal(role.Rules[1].Resources, []string{"groups"}) || !slices.Equal(role.Rules[1].Names, []string{"ztm:ops"}) {
		t.Errorf("%+v, %v", role, err)
	}
}

// TestWithoutUsersThereIsNoRule: one that names nobody would be the right to be anybody.
func TestWithoutUsersThereIsNoRule(t *testing.T) {
	var role struct{ Rules []any }
	if err := yaml.NewDecoder(strings.NewReader(string(rules(nil, nil)))).Decode(&role); err != nil || len(role.Rules) != 0 {
		t.Errorf("%+v, %v", role, err)
	}
}
