package PVE::Storage::Custom::TrinasPlugin;

# The storage type "trinas" of Proxmox VE: a volume of the trinas agent that runs on every node. To
# Proxmox it is a shared directory, mounted from the node's own agent over NFS on loopback. This file
# asks the agent and translates. It decides nothing and keeps nothing but the numbers of the last
# status. Every question has a time limit.
#
# Laid out as PVE::Storage::Plugin has its methods.

use strict;
use warnings;

use IO::File;
use IO::Handle;
use JSON;
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime);

use PVE::Cluster;
use PVE::ProcFSTools;
use PVE::Storage::Plugin; # DirPlugin comes with PVE::Storage, which must be loaded first

use Trinas::Agent;
use Trinas::Mount;

use base qw(PVE::Storage::Plugin);

# Time limits, in seconds. The agent answers "service" within 0.05.
our $LIMIT = {
    status => 0.08,
    check => 1,
    form => 5, # for the volume to have a primary, before a mount
    activate => 40,
    release => 5,
    claim => 10,
    list => 20,
    provide => 25,
};
my $STATUS_OLD = 60; # how long the last numbers do when the agent is late

# What each version of the storage API meant for this plugin:
#  10  rename_volume, volume_snapshot_info, attributes           PVE 7.2 to 8.3: inherited, or DirPlugin's
#  11  backup providers; sensitive properties are declared       PVE 8.4: none
#  12  qemu_blockdev_options, get_formats, rename_snapshot;      PVE 9.0: inherited; DirPlugin's
#      volume_qemu_snapshot_method
#  13  $hints of activate_volume; on_update_hook_full            PVE 9.1: not needed; done
#  14  get_identity                                              PVE 9.1: done
#  15  $snapname of volume_resize; virtual-size of snapshots     PVE 9.1: passed on; inherited
# A version above APIVER is refused by Proxmox, one below APIVER - APIAGE too, and any other that is
# not APIVER warns at every command.
my $OLDEST_API = 10;
my $NEWEST_API = 15;

sub api {
    my $version = PVE::Storage::APIVER();
    return $version >= $OLDEST_API && $version <= $NEWEST_API ? $version : $NEWEST_API;
}

# Configuration

sub type {
    return 'trinas';
}

sub plugindata {
    my $known = PVE::Storage::Plugin->get_vtype_subdirs();
    return {
        content => [
            { map { $_ => 1 } grep { exists($known->{$_}) } qw(images rootdir vztmpl iso backup snippets import) },
            { images => 1 },
        ],
        format => [{ raw => 1, qcow2 => 1 }, 'raw'],
        'sensitive-properties' => {},
    };
}

sub properties {
    return {
        'trinas-volume' => {
            description => "Name of the trinas volume. Made when the storage is added and there is none.",
            type => 'string',
            maxLength => 255,
            default => "the storage's ID",
        },
        'trinas-cluster' => {
            description => "ID of the trinas cluster that has the volume. Filled in when the storage is added.",
            type => 'string',
            maxLength => 64,
        },
        'trinas-options' => {
            description => "NFS mount options in addition to the plugin's, with commas between, and "
                . "'lazy-unmount', which lets the storage be deactivated while it is used.",
            type => 'string',
            maxLength => 1024,
        },
    };
}

# Proxmox loads no storage at all when an option has no property: only what this version knows.
sub options {
    my ($class) = @_;

    my $known = $class->private()->{propertyList};
    my $own = $class->properties();
    my $options = {
        path => { fixed => 1 },
        'trinas-volume' => { optional => 1, fixed => 1 },
        'trinas-cluster' => { optional => 1 },
        'trinas-options' => { optional => 1 },
        shared => { optional => 1 },
        nodes => { optional => 1 },
        disable => { optional => 1 },
        content => { optional => 1 },
        'content-dirs' => { optional => 1 },
        'create-subdirs' => { optional => 1 },
        format => { optional => 1 },
        preallocation => { optional => 1 },
        'prune-backups' => { optional => 1 },
        'max-protected-backups' => { optional => 1 },
        bwlimit => { optional => 1 },
        'snapshot-as-volume-chain' => { optional => 1, fixed => 1 },
    };
    return { map { $_ => $options->{$_} } grep { $known->{$_} || $own->{$_} } keys %$options };
}

# Also called for every entry when storage.cfg is read, with $create. It must not die then: an entry
# that cannot be read is in the way of others.
sub check_config {
    my ($class, $storeid, $config, $create, $skip_schema_check) = @_;

    if ($create) {
        $config->{path} //= "/mnt/pve/$storeid";
        $config->{'trinas-volume'} //= $storeid;
        # The base class preallocates metadata, which may take longer than the cluster's lock lasts.
        $config->{preallocation} //= 'off';
    }
    $config->{shared} = 1 if $create || exists($config->{shared});
    return $class->SUPER::check_config($storeid, $config, $create, $skip_schema_check);
}

# Hooks: called under the lock of storage.cfg.

# folders_of gives the directories that the storage's content needs, from the volume's root.
sub folders_of {
    my ($class, $storeid, $scfg) = @_;

    my $content = $scfg->{content} // $class->plugindata()->{content}->[1]; # Proxmox adds that one later
    my @types = grep { $content->{$_} } sort keys %{ $class->get_vtype_subdirs() };
    my $of = {};
    for my $type (@types) {
        my $folder = in_volume($scfg, $class->get_subdir($scfg, $type));
        $folder =~ s!/+!/!g;
        $folder =~ s!/\z!!;
        die "storage '$storeid' uses directory '$folder' for $of->{$folder} and for $type\n" if $of->{$folder};
        $of->{$folder} = $type;
    }
    return [] if defined($scfg->{'create-subdirs'}) && !$scfg->{'create-subdirs'};
    return [sort keys %$of];
}

# provide has the agent make sure that the volume can be used, on these nodes, within seconds.
sub provide {
    my ($class, $storeid, $scfg, $nodes, $create, $seconds) = @_;

    my $body = {
        nodes => $nodes,
        folders => $class->folders_of($storeid, $scfg),
        create => $create ? JSON::true : JSON::false,
    };
    return Trinas::Agent::need($scfg, 'POST', 'provide', body => $body, limit => $seconds);
}

# A node without the plugin that saves any storage's settings deletes this storage from storage.cfg:
# hence every node has to be ready.
sub on_add_hook {
    my ($class, $storeid, $scfg, %param) = @_;

    Trinas::Mount::parse_options($scfg->{'trinas-options'});
    my $answer = $class->provide($storeid, $scfg, PVE::Cluster::get_nodelist(), 1, $LIMIT->{provide});
    my ($cluster) = ($answer->{cluster} // '') =~ m/\A([A-Za-z0-9-]{1,64})\z/
        or die "the agent does not say which trinas cluster this node belongs to\n";
    $scfg->{'trinas-cluster'} = $cluster;
    return;
}

sub on_update_hook {
    my ($class, $storeid, $update, %param) = @_;

    my $scfg = PVE::Storage::storage_config(PVE::Storage::config(), $storeid);
    return $class->on_update_hook_full($storeid, $scfg, $update, [], \%param);
}

sub on_update_hook_full {
    my ($class, $storeid, $scfg, $update, $delete, $sensitive) = @_;

    my $next = { %$scfg, %$update };
    delete $next->{$_} for @{ $delete // [] };
    Trinas::Mount::parse_options($next->{'trinas-options'});
    my @matter = ('content', 'content-dirs', 'create-subdirs', 'trinas-cluster');
    $class->provide($storeid, $next, [], 0, $LIMIT->{provide}) if grep { exists($update->{$_}) } @matter;
    warn "new mount options hold from the next mount of storage '$storeid' on, on each node\n"
        if ($next->{'trinas-options'} // '') ne ($scfg->{'trinas-options'} // '');
    return;
}

# The volume and its data stay (trinas volume delete removes them). Never dies: also called to clean
# up after an addition that failed.
sub on_delete_hook {
    my ($class, $storeid, $scfg) = @_;

    eval {
        my $path = $scfg->{path};
        Trinas::Mount::unmount($path) if Trinas::Mount::is_mounted($path, $scfg->{'trinas-volume'});
        Trinas::Mount::forget($path);
    };
    warn "the mount of storage '$storeid' stays on this node: $@" if $@;
    return;
}

# Storage

# 0 when this node cannot serve while others may: Proxmox then says that the storage is not online. What
# the agent refuses, with its reason, is left to activate_storage, which can tell it.
sub check_connection {
    my ($class, $storeid, $scfg) = @_;

    my $got = Trinas::Agent::ask($scfg, 'GET', 'service', limit => $LIMIT->{check});
    return 1 if $got->{code} && $got->{error};
    my $why = $got->{error};
    $why //= $got->{answer}->{reason} // 'this node is cut off' if is_true($got->{answer}->{cut_off});
    return 1 if !defined($why);
    warn "storage '$storeid': " . Trinas::Agent::one_line($why) . "\n";
    return 0;
}

sub activate_storage {
    my ($class, $storeid, $scfg, $cache) = @_;

    my ($path, $volume) = $scfg->@{ 'path', 'trinas-volume' };
    eval {
        $cache->{mountdata} //= PVE::ProcFSTools::parse_proc_mounts();
        my $service = Trinas::Agent::need($scfg, 'GET', 'service', limit => $LIMIT->{check});
        return if Trinas::Mount::is_mounted($path, $volume, undef, $cache->{mountdata});

        my ($extra) = Trinas::Mount::parse_options($scfg->{'trinas-options'});
        $service = serving($scfg, $LIMIT->{form}) if !is_true($service->{serving});
        die "the agent serves no NFS on a loopback address: see nfs.listen in trinas.toml\n"
            if ref($service->{mount}) ne 'HASH';
        delete $cache->{mountdata};
        Trinas::Mount::mount_volume($storeid, $path, $volume, $service->{mount}, $extra);
        eval { $class->provide($storeid, $scfg, [], 0, $LIMIT->{release}) };
        warn "storage '$storeid': its folders: $@" if $@;
    };
    die "cannot activate storage '$storeid': $@" if $@;
    return 1;
}

sub deactivate_storage {
    my ($class, $storeid, $scfg, $cache) = @_;

    return 1 if !Trinas::Mount::is_mounted($scfg->@{ 'path', 'trinas-volume' });
    my (undef, $lazy) = Trinas::Mount::parse_options($scfg->{'trinas-options'});
    eval { Trinas::Mount::unmount($scfg->{path}, $lazy) };
    die "cannot deactivate storage '$storeid': $@" if $@;
    return 1;
}

my $numbers = {}; # of each storage's last status

# From the agent, never from the mount: pvestatd must not wait. An agent that is late once, or an election,
# does not make the storage look offline.
sub status {
    my ($class, $storeid, $scfg, $cache) = @_;

    $cache->{mountdata} //= PVE::ProcFSTools::parse_proc_mounts();
    my $mounted = Trinas::Mount::is_mounted($scfg->@{ 'path', 'trinas-volume' }, undef, $cache->{mountdata});
    return if !$mounted;

    my $got = Trinas::Agent::ask($scfg, 'GET', 'service', limit => $LIMIT->{status});
    my $now = clock_gettime(CLOCK_MONOTONIC);
    if (is_true($got->{answer}->{serving})) {
        my $space = $got->{answer}->{space};
        my ($total, $free) = map { number($space->{$_}) } qw(total_bytes free_bytes);
        $numbers->{$storeid} = $total ? { at => $now, all => [$total, $free, $total - $free, 1] } : undef;
    } elsif (is_true($got->{answer}->{cut_off}) || $got->{error} && !$got->{late}) {
        delete $numbers->{$storeid};
    }
    my $last = $numbers->{$storeid};
    return if !$last || $now - $last->{at} > $STATUS_OLD;
    return @{ $last->{all} };
}

sub get_identity {
    my ($class, $scfg, $storeid) = @_;

    my $service = Trinas::Agent::need($scfg, 'GET', 'service', limit => $LIMIT->{check});
    my ($identity) = ("$service->{cluster}/" . number($service->{id})) =~ m!\A([A-Za-z0-9-]+/[0-9]+)\z!
        or die "the agent does not say which volume '$scfg->{'trinas-volume'}' is\n";
    return $identity;
}

# Volumes, which are images, templates and so on in Proxmox's words

sub list_images {
    my ($class, $storeid, $scfg, $vmid, $vollist, $cache) = @_;

    my $formats = join('|', sort keys %{ $class->plugindata()->{format}->[0] });
    my $query = { folder => in_volume($scfg, $class->get_subdir($scfg, 'images')) };
    $query->{vmid} = $vmid if defined($vmid) && !$vollist;
    my $images = Trinas::Agent::need($scfg, 'GET', 'images', query => $query, limit => $LIMIT->{list});
    my $wanted = $vollist ? { map { $_ => 1 } @$vollist } : undef;

    my $res = [];
    for my $image (@$images) {
        # Untaints. Snapshots that are files of their own are part of their image.
        next if $image->{path} !~ m!/(\d+)/([^/\s]+\.($formats))\z!;
        my ($owner, $name, $format) = ($1, $2, $3);
        next if $name =~ m/\Asnap-.*\.qcow2\z/;
        next if !$vollist && defined($vmid) && $owner ne $vmid;

        my $volid = "$storeid:$owner/$name";
        my ($parent) = ($image->{parent} // '') =~ m/\A(\S+)\z/;
        $volid = "$storeid:$1/$2/$owner/$name" if defined($parent) && $parent =~ m!\A\.\./(\d+)/([^/]+\.(?:$formats))\z!;
        next if $wanted && !$wanted->{$volid};

        my $info = {
            volid => $volid,
            format => $image->{damage} ? 'invalid' : $format,
            size => number($image->{size_bytes}),
            used => number($image->{used_bytes}),
            vmid => $owner,
            parent => $parent,
        };
        my $ctime = number($image->{ctime_sec});
        $info->{ctime} = $ctime if $ctime;
        push @$res, $info;
    }
    return $res;
}

sub volume_size_info {
    my ($class, $scfg, $storeid, $volname, $timeout) = @_;

    my ($vtype, $format) = ($class->parse_volname($volname))[0, 6];
    return $class->SUPER::volume_size_info($scfg, $storeid, $volname, $timeout) if $vtype ne 'images';

    my $file = file_of($class, $scfg, $volname, $timeout // $LIMIT->{claim});
    my $size = number($file->{size_bytes});
    return $size if !wantarray;
    my ($parent) = ($file->{parent} // '') =~ m/\A(\S+)\z/;
    return ($size, $format, number($file->{used_bytes}), $parent, number($file->{ctime_sec}));
}

# An image that is activated is written by this node alone, and by those that have it active and are in
# touch (a live migration). Other files, and what is only read, are not recorded.
sub activate_volume {
    my ($class, $storeid, $scfg, $volname, $snapname, $cache, $hints) = @_;

    eval {
        if (my $path = recorded($class, $scfg, $volname, $snapname)) {
            my $got = change($scfg, 'activate', $path, $LIMIT->{activate});
            die "$got->{error}\n" if defined($got->{error});
        } else {
            serving($scfg, $LIMIT->{activate} - $LIMIT->{release} - $LIMIT->{check});
            file_of($class, $scfg, $volname, $LIMIT->{release});
        }
    };
    die "cannot activate volume '$storeid:$volname': $@" if $@;
    return 1;
}

# A guest's stop must not fail because of this: the image stays active until another node activates it.
sub deactivate_volume {
    my ($class, $storeid, $scfg, $volname, $snapname, $cache) = @_;

    eval {
        if (my $path = recorded($class, $scfg, $volname, $snapname)) {
            my $got = change($scfg, 'deactivate', $path, $LIMIT->{release});
            # One that is gone is active nowhere.
            die "$got->{error}\n" if defined($got->{error}) && ($got->{code} // 0) != 404;
        }
    };
    warn "volume '$storeid:$volname' stays active on this node: $@" if $@;
    return 1;
}

# Changes to an image. Where a guest ran last may still have it active, and then nobody else can change
# it: so this node activates it for the change (as_writer).

sub create_base {
    my ($class, $storeid, $scfg, $volname) = @_;

    return as_writer($class, $scfg, $volname, sub {
        my $base = $class->SUPER::create_base($storeid, $scfg, $volname);
        return ($base, $base);
    });
}

sub free_image {
    my ($class, $storeid, $scfg, $volname, $is_base, $format) = @_;

    return as_writer($class, $scfg, $volname, sub {
        return (scalar($class->SUPER::free_image($storeid, $scfg, $volname, $is_base, $format)), undef);
    });
}

sub rename_volume {
    my ($class, $scfg, $storeid, $volname, $target_vmid, $target_volname) = @_;

    return as_writer($class, $scfg, $volname, sub {
        my $volid = $class->SUPER::rename_volume($scfg, $storeid, $volname, $target_vmid, $target_volname);
        return ($volid, (PVE::Storage::Plugin::parse_volume_id($volid))[1]);
    });
}

sub volume_resize {
    my ($class, $scfg, $storeid, $volname, $size, $running, $snapname) = @_;

    my $resize = sub {
        my $res = $class->SUPER::volume_resize($scfg, $storeid, $volname, $size, $running, $snapname);
        return ($res, $volname);
    };
    return $running ? ($resize->())[0] : as_writer($class, $scfg, $volname, $resize);
}

sub volume_snapshot {
    my ($class, $scfg, $storeid, $volname, $snap) = @_;

    return as_writer($class, $scfg, $volname, sub {
        return (scalar($class->SUPER::volume_snapshot($scfg, $storeid, $volname, $snap)), $volname);
    });
}

sub volume_snapshot_rollback {
    my ($class, $scfg, $storeid, $volname, $snap) = @_;

    return as_writer($class, $scfg, $volname, sub {
        return (scalar($class->SUPER::volume_snapshot_rollback($scfg, $storeid, $volname, $snap)), $volname);
    });
}

sub volume_snapshot_delete {
    my ($class, $scfg, $storeid, $volname, $snap, $running) = @_;

    return as_writer($class, $scfg, $volname, sub {
        return (scalar($class->SUPER::volume_snapshot_delete($scfg, $storeid, $volname, $snap, $running)), $volname);
    });
}

# Export and import, which end with a look at what is there

sub volume_export {
    my ($class, $scfg, $storeid, $fh, $volname, $format, @rest) = @_;

    my $before = number(file_of($class, $scfg, $volname, $LIMIT->{claim})->{size_bytes});
    $class->SUPER::volume_export($scfg, $storeid, $fh, $volname, $format, @rest);
    flush_file($fh, $volname);
    my $after = number(file_of($class, $scfg, $volname, $LIMIT->{claim})->{size_bytes});
    die "volume '$storeid:$volname' had $before bytes when its export began and has $after now: export it again\n"
        if $before != $after;
    return;
}

our $allocated_kib; # by the import under way

sub volume_import {
    my ($class, $scfg, $storeid, $fh, $volname, $format, @rest) = @_;

    local $allocated_kib = undef;
    my $volid = $class->SUPER::volume_import($scfg, $storeid, $fh, $volname, $format, @rest);
    my (undef, $name) = PVE::Storage::Plugin::parse_volume_id($volid);
    my ($path) = $class->filesystem_path($scfg, $name);
    eval {
        my $file = IO::File->new($path, 'r+') or die "$path: $!\n";
        flush_file($file, $name);
        my $here = -s $file;
        close($file) or die "$path: $!\n";

        my $there = file_of($class, $scfg, $name, $LIMIT->{claim});
        die "it has $here bytes here, and " . number($there->{file_bytes}) . " in the volume\n"
            if $here != number($there->{file_bytes});
        my $kib = int((number($there->{size_bytes}) + 1023) / 1024);
        die "it was announced with $allocated_kib KiB, and $kib KiB came: import it again\n"
            if defined($allocated_kib) && $allocated_kib != $kib;
    };
    if (my $err = $@) {
        my ($vtype, $is_base, $file_format) = ($class->parse_volname($name))[0, 5, 6];
        if ($vtype eq 'images') {
            eval { $class->free_image($storeid, $scfg, $name, $is_base, $file_format) };
            warn $@ if $@;
        } else {
            unlink($path) or warn "remove '$path': $!\n";
        }
        die "import of volume '$volid': $err";
    }
    return $volid;
}

sub alloc_image {
    my ($class, $storeid, $scfg, $vmid, $fmt, $name, $size) = @_;

    $allocated_kib = $size;
    return $class->SUPER::alloc_image($storeid, $scfg, $vmid, $fmt, $name, $size);
}

# As the directory storage has them

sub get_volume_notes {
    my ($class, @args) = @_;
    return PVE::Storage::DirPlugin::get_volume_notes($class, @args);
}

sub update_volume_notes {
    my ($class, @args) = @_;
    return PVE::Storage::DirPlugin::update_volume_notes($class, @args);
}

sub get_volume_attribute {
    my ($class, @args) = @_;
    return PVE::Storage::DirPlugin::get_volume_attribute($class, @args);
}

sub update_volume_attribute {
    my ($class, @args) = @_;
    return PVE::Storage::DirPlugin::update_volume_attribute($class, @args);
}

sub get_import_metadata {
    my ($class, @args) = @_;
    return PVE::Storage::DirPlugin::get_import_metadata($class, @args);
}

sub volume_qemu_snapshot_method {
    my ($class, @args) = @_;
    return PVE::Storage::DirPlugin::volume_qemu_snapshot_method($class, @args);
}

# Functions, no methods

# in_volume turns a path below the mount into one from the volume's root.
sub in_volume {
    my ($scfg, $path) = @_;

    die "'$path' is not below '$scfg->{path}'\n" if index($path, "$scfg->{path}/") != 0;
    return substr($path, length($scfg->{path}) + 1);
}

# recorded gives the path in the volume of an image whose activation is recorded: those that a guest
# may write. Nothing for what is only read.
sub recorded {
    my ($class, $scfg, $volname, $snapname) = @_;

    my ($vtype, $is_base) = ($class->parse_volname($volname))[0, 5];
    return if $vtype ne 'images' || $is_base || defined($snapname);
    my ($path) = $class->filesystem_path($scfg, $volname);
    return in_volume($scfg, $path);
}

# change activates or deactivates an image, with its snapshots where these are files of their own. The
# answer is as Trinas::Agent::ask gives it.
sub change {
    my ($scfg, $what, $path, $limit) = @_;

    my $body = {
        path => $path,
        wait_sec => $limit > 2 ? $limit - 1 : 1, # so that the agent can still tell why
        chain => $scfg->{'snapshot-as-volume-chain'} ? JSON::true : JSON::false,
    };
    return Trinas::Agent::ask($scfg, 'POST', $what, body => $body, limit => $limit);
}

# as_writer runs $code, which changes the image and gives its result and the volume name that the image
# has then (undef: none), while this node has the image active; afterwards it is as it was before.
sub as_writer {
    my ($class, $scfg, $volname, $code) = @_;

    my ($vtype) = $class->parse_volname($volname);
    return ($code->())[0] if $vtype ne 'images';
    my $where = sub {
        my ($path) = $class->filesystem_path($scfg, $_[0]);
        return in_volume($scfg, $path);
    };

    my $got = change($scfg, 'activate', $where->($volname), $LIMIT->{claim});
    # Not found: $code knows best what to say.
    die "cannot change volume '$volname': $got->{error}\n" if defined($got->{error}) && ($got->{code} // 0) != 404;
    my $was_active = !defined($got->{error}) && is_true($got->{answer}->{was_active});

    my ($res, $now) = eval { $code->() };
    my $err = $@;
    $now = $volname if $err;
    if (defined($now)) {
        # A snapshot may have given an image that is active a new file.
        my $after = change($scfg, $was_active ? 'activate' : 'deactivate', $where->($now), $LIMIT->{claim});
        warn "volume '$now': $after->{error}\n" if defined($after->{error}) && !$err;
    }
    die $err if $err;
    return $res;
}

# serving waits until the volume can be used through this node; dies with the reason when it cannot.
sub serving {
    my ($scfg, $seconds) = @_;

    my $service =
        Trinas::Agent::need($scfg, 'GET', 'service', query => { wait_sec => $seconds }, limit => $seconds + $LIMIT->{check});
    return $service if is_true($service->{serving});
    my $why = Trinas::Agent::one_line($service->{reason} // 'the volume cannot be used through this node');
    die "$why: see trinas status\n";
}

# file_of gives what the agent knows of a volume's file; dies when there is none.
sub file_of {
    my ($class, $scfg, $volname, $seconds) = @_;

    my ($path) = $class->filesystem_path($scfg, $volname);
    return Trinas::Agent::need($scfg, 'GET', 'file', query => { path => in_volume($scfg, $path) }, limit => $seconds);
}

# flush_file returns once what was written is on the disks of a majority.
sub flush_file {
    my ($fh, $volname) = @_;

    $fh->flush() or die "flush '$volname': $!\n";
    return 1 if !-f $fh; # a pipe has nothing to sync
    $fh->sync() or die "flush '$volname': $!\n";
    return 1;
}

sub is_true {
    my ($value) = @_;
    return defined($value) && $value ? 1 : 0;
}

# number untaints a whole number; 0 for anything else.
sub number {
    my ($value) = @_;
    return defined($value) && !ref($value) && $value =~ m/\A(\d{1,20})\z/ ? int($1) : 0;
}

1;
