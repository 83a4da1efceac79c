package PVE::Cluster;

# Stand-in for the cluster file system.

use strict;
use warnings;

sub get_nodelist { return ['pve1', 'pve2'] }

1;
