package main

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"ztm/agent/service"
)

// artifact is a file of a release.
type artifact struct {
	name string
	data []byte
}

// packages makes everything that a target is packed into.
func (r Release) packages(t Target, program, licence []byte) ([]artifact, error) {
	name, bundle, err := r.bundle(t, program, licence)
	if err != nil {
		return nil, err
	}
	ipks, err := r.ipks(t, program)
	if err != nil {
		return nil, err
	}
	deb, err := r.deb(t, program, licence)
	if err != nil {
		return nil, err
	}
	termux, err := r.termux(t, program, licence)
	return slices.Concat([]artifact{{name, bundle}}, ipks, deb, termux), err
}

// control is the description that ipk and deb share.
func (r Release) control(architecture string, size int, extra string) string {
	return fmt.Sprintf(`Package: ztm
Version: %s
Architecture: %s
Maintainer: The ztm authors
Installed-Size: %d
Section: net
Priority: optional
%sDescription: zero-trust mesh in one static binary
 Reaches a service on one device from another through a public hub that cannot
 read or forge anything. Hub, agent and command line.
`, r.packageVersion(), architecture, size, extra)
}

// packageVersion is the version as package managers sort it: "v1.2.3-rc.1" is before "v1.2.3".
func (r Release) packageVersion() string {
	return strings.Replace(strings.TrimPrefix(r.Version, "v"), "-", "~", 1)
}

// parents are the directories above the entries, which packages list before them.
func parents(entries []entry) []entry {
	var out []entry
	seen := map[string]bool{".": true}
	var add func(p string)
	add = func(p string) {
		if !seen[p] {
			seen[p] = true
			add(path.Dir(p))
			out = append(out, dir(p))
		}
	}
	for _, e := range entries {
		add(path.Dir(strings.TrimPrefix(e.path, "./")))
	}
	for i := range out {
		out[i].path = "./" + out[i].path
	}
	return append(out, entries...)
}

// ipks makes a package for each of OpenWrt's names of the architecture: opkg takes no other. The
// services are there and disabled.
func (r Release) ipks(t Target, program []byte) ([]artifact, error) {
	if len(t.OpenWrt) == 0 {
		return nil, nil
	}
	entries := binaries("./usr/bin", program)
	written := map[string]bool{}
	for _, role := range []string{"agent", "hub"} {
		for _, f := range service.ProcdFiles(service.Spec{Role: role, Exe: "/usr/bin/ztm", Data: "/etc/ztm"}) {
			if !written[f.Path] {
				entries = append(entries, file("."+f.Path, f.Mode, []byte(f.Text)))
			}
			written[f.Path] = true
		}
	}
	data, err := tarGz(parents(entries), r.Built)
	if err != nil {
		return nil, err
	}
	var out []artifact
	for _, arch := range t.OpenWrt {
		control, err := tarGz([]entry{
			file("./control", 0o644, []byte(r.control(arch, len(program), ""))),
			file("./conffiles", 0o644, []byte("/etc/config/ztm\n")),
			file("./postinst", 0o755, []byte(openWrtPostinst)),
			file("./prerm", 0o755, []byte(openWrtPrerm)),
		}, r.Built)
		if err != nil {
			return nil, err
		}
		ipk, err := tarGz([]entry{file("./debian-binary", 0o644, []byte("2.0\n")), file("./data.tar.gz", 0o644, data), file("./control.tar.gz", 0o644, control)}, r.Built)
		if err != nil {
			return nil, err
		}
		out = append(out, artifact{"ztm_" + r.packageVersion() + "_" + arch + ".ipk", ipk})
	}
	return out, nil
}

const openWrtPostinst = `#!/bin/sh
[ -n "$IPKG_INSTROOT" ] && exit 0
for role in agent hub; do
	/etc/init.d/ztm-$role enable
	/etc/init.d/ztm-$role running && /etc/init.d/ztm-$role restart
done
exit 0
`

const openWrtPrerm = `#!/bin/sh
[ -n "$IPKG_INSTROOT" ] && exit 0
for role in agent hub; do
	/etc/init.d/ztm-$role stop
	/etc/init.d/ztm-$role disable
done
exit 0
`

// deb makes a package for Debian and its like. It starts nothing: `ztm start` does.
func (r Release) deb(t Target, program, licence []byte) ([]artifact, error) {
	if t.Debian == "" {
		return nil, nil
	}
	entries := append(binaries("./usr/bin", program), file("./usr/share/doc/ztm/copyright", 0o644, licence))
	entries = append(entries, r.manualEntries("./usr/share/man")...)
	data, err := r.debFile(t.Debian, entries, len(program), "", map[string]string{"postinst": debPostinst, "prerm": debPrerm})
	return []artifact{{"ztm_" + r.packageVersion() + "_" + t.Debian + ".deb", data}}, err
}

const debPostinst = `#!/bin/sh
set -e
if [ "$1" = configure ] && [ -n "$2" ] && [ -d /run/systemd/system ]; then
	systemctl try-restart ztm-agent ztm-hub || true
fi
`

const debPrerm = `#!/bin/sh
set -e
if [ "$1" = remove ]; then
	for role in agent hub; do
		ztm stop $role --uninstall >/dev/null 2>&1 || true
	done
fi
`

const termuxPrefix = "./data/data/com.termux/files/usr"

// termux makes a package for Termux on Android, whose packages are Debian's in a place of their
// own.
func (r Release) termux(t Target, program, licence []byte) ([]artifact, error) {
	if t.Termux == "" {
		return nil, nil
	}
	entries := append(binaries(termuxPrefix+"/bin", program), file(termuxPrefix+"/share/doc/ztm/copyright", 0o644, licence))
	entries = append(entries, r.manualEntries(termuxPrefix+"/share/man")...)
	data, err := r.debFile(t.Termux, entries, len(program), "Recommends: termux-services\n", nil)
	return []artifact{{"ztm_" + r.packageVersion() + "_termux_" + t.Termux + ".deb", data}}, err
}

// debFile makes a Debian package: an ar archive of a version, a control archive and a data archive.
func (r Release) debFile(arch string, entries []entry, size int, extra string, scripts map[string]string) ([]byte, error) {
	data, err := tarGz(parents(entries), r.Built)
	if err != nil {
		return nil, err
	}
	control := []entry{file("./control", 0o644, []byte(r.control(arch, (size+1023)/1024, extra)))}
	for _, name := range []string{"postinst", "prerm"} {
		if s, ok := scripts[name]; ok {
			control = append(control, file("./"+name, 0o755, []byte(s)))
		}
	}
	packed, err := tarGz(control, r.Built)
	if err != nil {
		return nil, err
	}
	return r.ar([]artifact{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", packed}, {"data.tar.gz", data}}), nil
}

// ar makes an archive in the format that deb(5) wants: a header of 60 columns for each member,
// which begins at an even offset.
func (r Release) ar(members []artifact) []byte {
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	for _, m := range members {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, r.Built.Unix(), 0, 0, "100644", len(m.data))
		out.Write(m.data)
		if len(m.data)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}
