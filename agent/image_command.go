package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"trinas/agent/control"
)

func (c *cli) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "List guests' images, and say which node may write one",
		Long: "An image that a node has activated is written only from the nodes that have it active. The " +
			"Proxmox storage plugin does that when a guest starts and stops. Activating an image on a node takes it " +
			"from nodes that are out of touch, for good: what their guests still write is refused.",
		Args: cobra.NoArgs, RunE: help,
	}
	cmd.AddCommand(c.imageList(), c.imageActivate(), c.imageDeactivate())
	return cmd
}

func (c *cli) imageList() *cobra.Command {
	var vmid string
	cmd := &cobra.Command{
		Use:               "list VOLUME",
		Short:             "List a volume's images, and the nodes where each is active",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeVolume,
		RunE: func(cmd *cobra.Command, args []string) error {
			client := c.client()
			defer client.Close()
			images, err := client.Images(cmd.Context(), args[0], vmid)
			if err != nil {
				return err
			}
			return c.print(images, imageTable(images))
		},
	}
	cmd.Flags().StringVar(&vmid, "guest", "", "only the images of the guest with this `number`")
	return cmd
}

// imageTable has a line for each image.
func imageTable(images []control.Image) string {
	if len(images) == 0 {
		return "No images.\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tSIZE\tUSED\tACTIVE ON\tREFUSED TO")
	for _, i := range images {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.Path, bytesText(i.SizeBytes), bytesText(i.UsedBytes),
			orNone(strings.Join(i.Writers, ",")), orNone(strings.Join(i.Barred, ",")))
	}
	w.Flush() // a strings.Builder takes everything
	return b.String()
}

func (c *cli) imageActivate() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "activate VOLUME PATH",
		Short: "Let this node write an image, and shut nodes that are out of touch out of it",
		Long: "Lets this node write the image at PATH, which counts from the volume's root, such as " +
			"images/100/vm-100-disk-0.raw. Nodes where it is active stay writers if the volume's primary was in touch " +
			"with them within 10 s; others are refused from then on, until they activate it again.",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: c.completeVolume,
		RunE: func(cmd *cobra.Command, args []string) error {
			client := c.client()
			defer client.Close()
			if err := client.Activate(cmd.Context(), args[0], args[1], wait); err != nil {
				return err
			}
			return c.print(map[string]string{"active": args[1]}, "Image "+args[1]+" is active on this node.\n")
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 40*time.Second, "how long to wait for the volume's primary")
	return cmd
}

func (c *cli) imageDeactivate() *cobra.Command {
	return &cobra.Command{
		Use:               "deactivate VOLUME PATH",
		Short:             "This node no longer writes an image",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: c.completeVolume,
		RunE: func(cmd *cobra.Command, args []string) error {
			client := c.client()
			defer client.Close()
			if err := client.Deactivate(cmd.Context(), args[0], args[1], 0); err != nil {
				return err
			}
			return c.print(map[string]string{"inactive": args[1]}, "Image "+args[1]+" is no longer active on this node.\n")
		},
	}
}
