from espnet3.systems.launch import launch

from espnet_prune.plugin.espnet3.system import SSLPruneSystem

if __name__ == "__main__":
    launch(SSLPruneSystem, conf_package="egs3.TEMPLATE.esp2_asr")
