package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// linkerCuts make Go's linker leave out the tables that are for traces of a stack alone: lines,
// files, and the values of arguments. The machine code is the same, so lines.go finds the lines of a
// trace that has none. What finds pointers, grows stacks and stops goroutines stays, and so do the
// names of functions: the runtime asks by them where it may stop a goroutine.
//
//	overlay of cmd/link -> our link -> go build -toolexec "toolexec our-link" -> compile as ever | our link
//
// linux/mipsle is smaller by 983, 421 KB.
var linkerCuts = []cut{
	// No lines and no files: 0 is "no table". 486, 335 KB
	{pcln, "pcSyms := []loader.Sym{pcsp, pcfile, pcline}", "pcSyms, _ := []loader.Sym{pcsp}, []loader.Sym{pcfile, pcline}"},
	{pcln, "off = sb.SetUint32(ctxt.Arch, off, uint32(ldr.SymValue(pcfile)))", "off, _ = sb.SetUint32(ctxt.Arch, off, 0), pcfile"},
	{pcln, "off = sb.SetUint32(ctxt.Arch, off, uint32(ldr.SymValue(pcline)))", "off, _ = sb.SetUint32(ctxt.Arch, off, 0), pcline"},
	// No names of files, and no lines at which functions begin. 92, 25 KB
	{pcln, "for i, nf := 0, int(fi.NumFile()); i < nf; i++ {", "for i, nf := 0, 0; i < nf; i++ {"},
	{pcln, "for i, ninl := 0, int(fi.NumInlTree()); i < ninl; i++ {", "for i, ninl := 0, 0; i < ninl; i++ {"},
	{pcln, "startLine = inlFunc.StartLine()", ""},
	{pcln, "startLine = fi.StartLine()", ""},
	// Names as they are printed, without the types that a function was compiled for, and each once. 151, 11 KB
	{pcln, "nameOffsets := make(map[loader.Sym]uint32, state.nfunc)", `nameOffsets, known := make(map[loader.Sym]uint32, state.nfunc), map[string]uint32{}
		printed := func(s loader.Sym) string {
			name := ctxt.loader.SymName(s)
			if i, j := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']'); i >= 0 && i < j {
				name = name[:i] + "[...]" + name[j+1:]
			}
			return name
		}`},
	{pcln, "symtab.AddCStringAt(int64(off), ctxt.loader.SymName(s))", "symtab.AddCStringAt(int64(off), printed(s))"},
	{pcln, "nameOffsets[s] = uint32(size)", `if off, ok := known[printed(s)]; ok {
			nameOffsets[s] = off
			return
		}
		nameOffsets[s], known[printed(s)] = uint32(size), uint32(size)`},
	{pcln, "size += int64(len(ctxt.loader.SymName(s)) + 1) // NULL terminate", "size += int64(len(printed(s)) + 1)"},
	// Which arguments are alive where.
	{pcln, "for _, pcSym := range pcdata {", "for i, pcSym := range pcdata { if i == abi.PCDATA_ArgLiveIndex { continue }"},
	{pcln, "for j, pcSym := range pcdata {", "for j, pcSym := range pcdata { if j == abi.PCDATA_ArgLiveIndex { continue }"},
	// Where arguments are, and what a wrapper wraps, of which only runtime/trace wants to know. These tables are the last of each function's.
	{pcln, "numFuncData := ldr.NumFuncdata(s)", "numFuncData := len(funcData(ldr, s, fi, 1, nil))"},
	{pcln, "fdSyms = ldr.Funcdata(s, fdSyms)", `fdSyms = ldr.Funcdata(s, fdSyms)
		fdSyms = fdSyms[:min(len(fdSyms), abi.FUNCDATA_ArgInfo)]
		for len(fdSyms) > 0 && fdSyms[len(fdSyms)-1] == 0 {
			fdSyms = fdSyms[:len(fdSyms)-1]
		}`},
	{pcln, "seen = nil", `for _, s := range funcs {
			for i, fdSym := range ldr.Funcdata(s, nil) {
				if _, ok := seen[fdSym]; i >= abi.FUNCDATA_ArgInfo && fdSym != 0 && !ok {
					ldr.SetAttrReachable(fdSym, false)
				}
			}
		}`},
}

// pcln is the file of the linker that writes these tables.
const pcln = "cmd/link/internal/ld/pcln.go"

// makeLinker builds into dir our linker and what runs it, and returns the argument for -toolexec.
func makeLinker(ctx context.Context, dir, goroot, root string) (string, error) {
	overlay := filepath.Join(dir, "overlay-link.json")
	if err := writeOverlay(overlay, goroot, nil, linkerCuts, map[string]string{}); err != nil {
		return "", err
	}
	link, tool := filepath.Join(dir, "link"), filepath.Join(dir, "toolexec")
	if runtime.GOOS == "windows" {
		link, tool = link+".exe", tool+".exe"
	}
	here := Target{OS: runtime.GOOS, Arch: runtime.GOARCH}
	for _, args := range [][]string{{"-o", link, "-overlay", overlay, "cmd/link"}, {"-o", tool, "./cross/toolexec"}} {
		cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath", "-buildvcs=false", "-gcflags=all=" + noDWARF, "-ldflags=-s -w"}, args...)...)
		cmd.Dir, cmd.Env = root, append(os.Environ(), here.Env()...)
		if err := quiet(ctx, cmd); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("'%s' '%s'", tool, link), nil
}
