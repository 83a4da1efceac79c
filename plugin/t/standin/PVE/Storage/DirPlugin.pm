package PVE::Storage::DirPlugin;

# Stand-in: what the plugin delegates to, which tells that it was asked.

use strict;
use warnings;

use base qw(PVE::Storage::Plugin);

sub type { return 'dir' }
sub plugindata { return {} }
sub options { return { path => { fixed => 1 } } }

sub properties {
    return { map { $_ => { type => 'string' } } qw(path create-subdirs bwlimit) };
}

sub get_volume_notes { return 'notes of dir' }
sub update_volume_notes { return 'notes to dir' }
sub get_volume_attribute { my (undef, undef, undef, undef, $name) = @_; return $name eq 'notes' ? 'notes of dir' : 0 }
sub update_volume_attribute { return 'attribute to dir' }
sub get_import_metadata { return 'metadata of dir' }
sub volume_qemu_snapshot_method { return 'method of dir' }

1;
