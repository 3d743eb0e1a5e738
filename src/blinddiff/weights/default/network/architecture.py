from blinddiff.models.mcformer import MCFormer
from blinddiff.published.network import PublishedMCFormer
