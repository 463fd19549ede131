// Package emulate runs the binaries of a release as the devices would: a hub, two agents and a tunnel under the user-mode emulator of
// each processor, 386 on this very one, Windows under wine.
//
//	cross -bare -> qemu-ARCH-static ztm run hub | ztm run agent, twice -> join, invite, tunnel -> bytes there and back,
//	               by TCP and by UDP -> the agent starts again from its own database
//
// There is nothing in it but tests:
//
//	go test ./scripts/emulate -v
//	go test ./scripts/emulate -v -targets linux/arm64,linux/riscv64,linux/mips64le -timeout 30m
//	go test ./scripts/emulate -v -targets windows/amd64
//
// Wine is Debian's wine64, with binutils-mingw-w64-x86-64 for a DLL that it lacks; UDP stays out, as Wine 8 refuses what Go asks of
// each such socket. The emulators are Debian's qemu-user-static. For loong64 they have to be of version 10: QEMU names the directory of others. The
// first build of a target compiles the standard library for it, half a minute of a processor each. With -short nothing runs.
package emulate
