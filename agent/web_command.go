package main

import (
	"fmt"
	"net/netip"
	"net/url"

	"github.com/spf13/cobra"
)

func (c *cli) webCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "web",
		Short: "Print a link to the web page, good for one log-in",
		Long: "Prints the address of this node's web page and a link that logs in there, once, within ten minutes. The page\n" +
			"shows nodes, volumes, load and events, and changes nothing. A browser does not know this node's certificate:\n" +
			"compare the fingerprint that it shows with the one printed here.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := c.client()
			defer client.Close()
			login, err := client.Web(cmd.Context())
			if err != nil {
				return err
			}
			text := fmt.Sprintf("page         %s\nlog in       %s\nuntil        %s\ncertificate  SHA-256 %s\n",
				login.Address, login.Link, timeText(login.Until), login.Fingerprint)
			if u, err := url.Parse(login.Address); err == nil {
				if at, err := netip.ParseAddrPort(u.Host); err == nil && at.Addr().IsLoopback() {
					text += fmt.Sprintf("\nFrom another machine, first: ssh -L %d:%s root@NODE\n", at.Port(), u.Host)
				}
			}
			return c.print(login, text)
		},
	}
}
