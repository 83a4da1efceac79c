package guest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
)

// Build builds a Go program that needs no libraries, as a guest's are. pkg is as the go command
// takes it; the program is put at out.
func Build(ctx context.Context, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w: %s", pkg, err, bytes.TrimSpace(b))
	}
	return nil
}
