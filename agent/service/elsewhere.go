//go:build !ztm_router

package service

// elsewhere returns the service managers of systems other than Linux.
func elsewhere() []System {
	return []System{
		{Name: "launchd", Own: true, Plan: launchd},
		{Name: "rc.d", Plan: freebsd},
		{Name: "windows", Plan: scm},
	}
}
