// Package feature says what was built into this binary. Each feature is a constant in a pair of files, of which the build tag
// ztm_omit_NAME takes the other one; what is behind a constant that is false is not linked.
//
//	go build -tags ztm_omit_hub,ztm_omit_script
//
// The tag ztm_router is the profile of devices with little flash: it leaves out what [builtin.JavaScript],
// [Audit], [Backup], [Cluster], [Console], [Datagrams], [Kubernetes], [Policies] and [YAML] stand for. With ztm_add_policies it has
// policies all the same. The apps are in package builtin.
package feature

import (
	"slices"

	"ztm/apps/builtin"
)

// Part is one feature.
type Part struct {
	Name     string   // as `ztm version` shows it
	In       bool     // it was built into this binary
	Commands []string // that are there with it alone, as they are typed: "get app"
}

// Parts returns all that can be left out, by name.
func Parts() []Part {
	return []Part{
		{"apps", builtin.Apps, []string{"app", "get app", "describe app"}},
		{"audit", Audit, []string{"audit verify"}},
		{"backup", Backup, []string{"backup", "restore"}},
		{"cloud", builtin.Cloud, []string{"cloud", "get file", "describe file"}},
		{"cluster", Hub && Cluster, nil},
		{"console", Console, []string{"console"}},
		{"datagrams", Datagrams, nil},
		{"file", builtin.File, []string{"file"}},
		{"hub", Hub, []string{"run hub", "start hub", "stop hub", "status hub"}},
		{"javascript", builtin.Script && builtin.JavaScript, nil},
		{"kubernetes", Kubernetes, []string{"kube"}},
		{"mirrors", builtin.Cloud && builtin.Mirrors, []string{"cloud mirror"}},
		{"policies", Policies, []string{"group add", "group remove", "policy direct", "policy label"}},
		{"proxy", builtin.Proxy, []string{"proxy"}},
		{"script", builtin.Script, []string{"script"}},
		{"terminal", builtin.Terminal, []string{"terminal"}},
		{"yaml", YAML, []string{"import", "policy test", "policy diff", "policy apply", "policy export", "policy adopt", "policy report", "policy remove"}},
	}
}

// Names lists what is in, as `ztm version` shows it.
func Names() []string {
	names := []string{"agent", "tunnel"}
	for _, p := range Parts() {
		if p.In {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Missing returns the feature that a command comes with, if this binary was built without it, and
// "" otherwise.
func Missing(command string) string {
	for _, p := range Parts() {
		if !p.In && slices.Contains(p.Commands, command) {
			return p.Name
		}
	}
	return ""
}
