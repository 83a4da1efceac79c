package PVE::Storage::Plugin;

# Stand-in for the base class of storage plugins: signatures and results of its methods as far as the
# plugin relies on them, over plain files.

use strict;
use warnings;

use File::Path;

my $data = {
    propertyList => {
        map { $_ => {} } qw(type storage nodes content disable prune-backups max-protected-backups shared
            format preallocation content-dirs options snapshot-as-volume-chain)
    },
};
my $subdirs = {
    images => 'images', rootdir => 'private', iso => 'template/iso', vztmpl => 'template/cache', backup => 'dump',
    snippets => 'snippets', import => 'import',
};

sub private { return $data }
sub register { my ($class) = @_; $data->{plugins}->{ $class->type() } = $class; return }

sub init {
    my ($class) = @_;

    my @plugins = map { $data->{plugins}->{$_} } sort keys %{ $data->{plugins} };
    for my $plugin (@plugins) {
        my $own = $plugin->properties();
        for my $name (keys %$own) {
            die "duplicate property '$name'" if $data->{propertyList}->{$name};
            $data->{propertyList}->{$name} = $own->{$name};
        }
    }
    for my $plugin (@plugins) {
        my $options = $plugin->options();
        $data->{propertyList}->{$_} or die "undefined property '$_'" for keys %$options;
    }
    return;
}

sub get_vtype_subdirs { return $subdirs }
sub check_config { my (undef, undef, $config) = @_; return {%$config} }

sub parse_volume_id {
    my ($volid) = @_;
    return $volid =~ m/^([^:]+):(.+)$/ ? ($1, $2) : die "unable to parse volume ID '$volid'\n";
}

sub get_subdir {
    my ($class, $scfg, $vtype) = @_;
    return "$scfg->{path}/" . ($scfg->{'content-dirs'}->{$vtype} // $subdirs->{$vtype});
}

sub parse_volname {
    my ($class, $volname) = @_;
    return ('images', $3, $2, $1 ? split('/', $1) : (undef, undef), index($3, 'base-') == 0 ? 'base-' : undef, $4)
        if $volname =~ m!^(\d+/[^/]+)?/?(\d+)/([^/]+\.(raw|qcow2))$!;
    return ($1, $2, undef, undef, undef, undef, 'raw') if $volname =~ m!^(iso|vztmpl|backup|snippets|import)/([^/]+)$!;
    die "unable to parse directory volume name '$volname'\n";
}

sub filesystem_path {
    my ($class, $scfg, $volname, $snapname) = @_;
    my ($vtype, $name, $vmid) = $class->parse_volname($volname);
    $name = "snap-$snapname-$name" if $snapname && $scfg->{'snapshot-as-volume-chain'};
    my $path = $class->get_subdir($scfg, $vtype) . ($vtype eq 'images' ? "/$vmid" : '') . "/$name";
    return wantarray ? ($path, $vmid, $vtype) : $path;
}

sub volume_size_info { my ($class, $scfg, $storeid, $volname) = @_; return -s $class->filesystem_path($scfg, $volname) }

# put makes a file of a size.
sub put {
    my ($path, $size) = @_;
    my ($dir) = $path =~ m!^(.*)/!;
    File::Path::make_path($dir);
    open(my $fh, '>', $path) or die "$path: $!\n";
    truncate($fh, $size) or die "$path: $!\n";
    close($fh) or die "$path: $!\n";
    return;
}

sub alloc_image {
    my ($class, $storeid, $scfg, $vmid, $fmt, $name, $size) = @_;
    put("$scfg->{path}/images/$vmid/$name", 1024 * $size);
    return "$vmid/$name";
}

sub create_base {
    my ($class, $storeid, $scfg, $volname) = @_;
    (my $base = $volname) =~ s!/vm-!/base-!;
    rename($class->filesystem_path($scfg, $volname), $class->filesystem_path($scfg, $base)) or die "rename: $!\n";
    return $base;
}

sub free_image {
    my ($class, $storeid, $scfg, $volname) = @_;
    unlink($class->filesystem_path($scfg, $volname)) or warn "disk image '$volname' does not exist\n";
    return;
}

sub rename_volume {
    my ($class, $scfg, $storeid, $volname, $vmid, $name) = @_;
    my $new = $class->filesystem_path($scfg, "$vmid/$name");
    File::Path::make_path($new =~ m!^(.*)/!);
    rename($class->filesystem_path($scfg, $volname), $new) or die "rename: $!\n";
    return "$storeid:$vmid/$name";
}

sub volume_resize {
    my ($class, $scfg, $storeid, $volname, $size, $running) = @_;
    return 1 if $running;
    truncate($class->filesystem_path($scfg, $volname), $size) or die "resize: $!\n";
    return;
}

sub volume_snapshot { return }
sub volume_snapshot_rollback { die "can't roll back\n" }
sub volume_snapshot_delete { return }

sub volume_export {
    my ($class, $scfg, $storeid, $fh, $volname) = @_;
    my $path = $class->filesystem_path($scfg, $volname);
    open(my $in, '<', $path) or die "$path: $!\n";
    syswrite($fh, pack('Q<', -s $in));
    local $/ = undef;
    syswrite($fh, scalar(<$in>));
    close($in) or die "$path: $!\n";
    return;
}

sub volume_import {
    my ($class, $scfg, $storeid, $fh, $volname) = @_;
    my ($vtype, $name, $vmid, undef, undef, undef, $format) = $class->parse_volname($volname);
    sysread($fh, my $size, 8) == 8 or die "import: no size found in export header, aborting.\n";
    $size = int((unpack('Q<', $size) + 1023) / 1024);
    my $path = $class->filesystem_path($scfg, $volname);
    $vtype eq 'images' ? $class->alloc_image($storeid, $scfg, $vmid, $format, $name, $size) : put($path, 0);
    open(my $out, '>', $path) or die "$path: $!\n";
    while (sysread($fh, my $data, 65536)) {
        syswrite($out, $data);
    }
    close($out) or die "$path: $!\n";
    return "$storeid:$volname";
}

1;
