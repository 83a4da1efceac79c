package initramfs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Modules returns the files of kernel modules and of all they need, in the order to load them. dir holds one
// kernel's folder, as /lib/modules does.
func Modules(dir string, names []string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*", "modules.dep"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("one kernel's modules expected in %s, there are %d", dir, len(found))
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		return nil, err
	}
	var files []string
	for _, name := range names {
		var needs []string
		for line := range strings.Lines(string(b)) { // kernel/fs/nfs/nfsv3.ko: kernel/fs/nfs/nfs.ko ...
			file, others, ok := strings.Cut(strings.TrimSpace(line), ":")
			if ok && filepath.Base(file) == name+".ko" {
				needs = append([]string{file}, strings.Fields(others)...)
			}
		}
		if needs == nil {
			return nil, fmt.Errorf("no kernel module %s in %s", name, dir)
		}
		// A module stands before those that it needs.
		for _, file := range slices.Backward(needs) {
			if path := filepath.Join(filepath.Dir(found[0]), file); !slices.Contains(files, path) {
				files = append(files, path)
			}
		}
	}
	return files, nil
}
