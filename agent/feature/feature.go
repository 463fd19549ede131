// Package feature says what was built into this binary. Each feature is a constant in a pair of files, of which the build tag
// ztm_omit_NAME takes the other one; what is behind a constant that is false is not linked.
//
//	go build -tags ztm_omit_hub,ztm_omit_script
//
// The tag ztm_router is the profile of devices with little flash: it leaves out what [builtin.JavaScript], [YAML],
// [Cluster], [Console] and [Kubernetes] stand for. The apps are in package builtin.
package feature

import (
	"slices"

	"ztm/apps/builtin"
)

// Names lists what is in, as `ztm version` shows it.
func Names() []string {
	names := []string{"agent", "tunnel"}
	for _, f := range []struct {
		name string
		in   bool
	}{
		{"apps", builtin.Apps}, {"audit", Audit}, {"backup", Backup}, {"cloud", builtin.Cloud}, {"cluster", Hub && Cluster},
		{"console", Console}, {"file", builtin.File}, {"hub", Hub}, {"javascript", builtin.Script && builtin.JavaScript},
		{"kubernetes", Kubernetes}, {"proxy", builtin.Proxy}, {"script", builtin.Script}, {"terminal", builtin.Terminal}, {"yaml", YAML},
	} {
		if f.in {
			names = append(names, f.name)
		}
	}
	slices.Sort(names)
	return names
}
