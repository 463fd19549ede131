// Package feature says what was built into this binary. Each feature is a constant in a pair of files, of which the build tag
// ztm_omit_NAME takes the other one; what is behind a constant that is false is not linked.
//
//	go build -tags ztm_omit_hub,ztm_omit_script
//
// The tag ztm_router is the profile of devices with little flash: it leaves out what [JavaScript], [YAML], [Cluster],
// [Console] and [Kubernetes] stand for.
package feature

import "slices"

// Names lists what is in, as `ztm version` shows it.
func Names() []string {
	names := []string{"agent", "tunnel"}
	for _, f := range []struct {
		name string
		in   bool
	}{{"apps", Apps}, {"audit", Audit}, {"backup", Backup}, {"hub", Hub}, {"cluster", Hub && Cluster}, {"kubernetes", Kubernetes}, {"proxy", Proxy}, {"terminal", Terminal}, {"script", Script}, {"cloud", Cloud}, {"console", Console}, {"file", File}, {"javascript", Script && JavaScript}, {"yaml", YAML}} {
		if f.in {
			names = append(names, f.name)
		}
	}
	slices.Sort(names)
	return names
}
